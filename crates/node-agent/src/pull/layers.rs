//! What an engine says of a pull, line by line, folded into how far it has come.

use domain::pull::{LAYERS_MAX, LayerProgress};

use crate::runtime::PullSign;

/// The layers of one try.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Layers(pub(super) Vec<LayerProgress>);

impl Layers {
    /// Takes note of what the engine said.
    pub(super) fn fold(&mut self, sign: &PullSign) {
        let Some(id) = sign.id.as_deref().filter(|_| is_of_a_layer(&sign.status)) else { return };
        let index = match self.0.iter().position(|layer| layer.id == id) {
            Some(index) => index,
            None if self.0.len() < LAYERS_MAX => {
                let status = String::new();
                self.0.push(LayerProgress { id: id.to_owned(), status, current_bytes: 0, total_bytes: None });
                self.0.len() - 1
            }
            None => return,
        };
        if let Some(layer) = self.0.get_mut(index) {
            advance(layer, sign);
        }
    }
}

/// The first and the last lines are about the image: the first has the tag for an id.
fn is_of_a_layer(status: &str) -> bool {
    !["Pulling from", "Digest:", "Status:"].iter().any(|begin| status.starts_with(begin))
}

fn advance(layer: &mut LayerProgress, sign: &PullSign) {
    layer.status.clone_from(&sign.status);
    match sign.status.as_str() {
        "Downloading" => {
            // Also downwards: a download that broke may begin anew.
            layer.current_bytes = sign.current_bytes.unwrap_or(layer.current_bytes);
            layer.total_bytes = sign.total_bytes.or(layer.total_bytes);
        }
        // The engine counts once more from 0 while it unpacks: by then all bytes are here.
        "Verifying Checksum" | "Download complete" | "Extracting" | "Pull complete" => {
            let total = layer.total_bytes.or(sign.total_bytes).unwrap_or(layer.current_bytes);
            layer.current_bytes = total;
            layer.total_bytes = Some(total);
        }
        // Nothing of it has to be fetched.
        "Already exists" => layer.total_bytes = Some(layer.current_bytes),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sign(id: &str, status: &str, current_bytes: Option<u64>, total_bytes: Option<u64>) -> PullSign {
        PullSign { id: Some(id.into()), status: status.into(), current_bytes, total_bytes }
    }

    fn folded(signs: &[PullSign]) -> Vec<(String, String, u64, Option<u64>)> {
        let mut layers = Layers::default();
        signs.iter().for_each(|sign| layers.fold(sign));
        layers.0.into_iter().map(|l| (l.id, l.status, l.current_bytes, l.total_bytes)).collect()
    }

    /// The bytes after each line about one layer.
    fn course(signs: &[(&str, Option<u64>, Option<u64>)]) -> Vec<(u64, Option<u64>)> {
        let mut layers = Layers::default();
        let step = |(status, current, total): &(&str, Option<u64>, Option<u64>)| {
            layers.fold(&sign("0a1b", status, *current, *total));
            (layers.0[0].current_bytes, layers.0[0].total_bytes)
        };
        signs.iter().map(step).collect()
    }

    #[test]
    fn a_pull_of_docker_20_10_is_followed_to_its_end() {
        let lines = [
            ("Pulling fs layer", None, None),
            ("Waiting", None, None),
            ("Downloading", Some(10), Some(100)),
            ("Downloading", Some(90), Some(100)),
            ("Verifying Checksum", None, None),
            ("Download complete", None, None),
            ("Extracting", Some(32), Some(100)),
            ("Pull complete", None, None),
        ];
        let all = (100, Some(100));
        let expected = [(0, None), (0, None), (10, Some(100)), (90, Some(100)), all, all, all, all];
        assert_eq!(course(&lines), expected);
    }

    #[test]
    fn a_download_that_broke_may_begin_anew() {
        let lines = [
            ("Downloading", Some(90), Some(100)),
            ("Retrying in 5 seconds", None, None),
            ("Downloading", Some(4), Some(100)),
        ];
        assert_eq!(course(&lines), [(90, Some(100)), (90, Some(100)), (4, Some(100))]);
    }

    #[test]
    fn what_need_not_be_fetched_has_no_bytes_and_a_size_that_was_never_told_is_what_came() {
        assert_eq!(course(&[("Already exists", None, None)]), [(0, Some(0))]);
        let lines =
            [("Downloading", None, None), ("Extracting", Some(5), Some(7)), ("Pull complete", None, None)];
        assert_eq!(course(&lines), [(0, None), (7, Some(7)), (7, Some(7))]);
    }

    #[test]
    fn lines_about_the_image_are_about_no_layer() {
        let mut image = sign("", "Digest: sha256:00", None, None);
        image.id = None;
        let lines = [sign("1", "Pulling from team/app", None, None), image, sign("b", "Waiting", None, None)];
        assert_eq!(folded(&lines), [("b".into(), "Waiting".into(), 0, None)]);
    }

    #[test]
    fn layers_stay_in_the_order_in_which_they_came_and_are_no_more_than_are_told_of() {
        let many: Vec<_> = (0..=LAYERS_MAX).map(|n| sign(&n.to_string(), "Waiting", None, None)).collect();
        let mut lines = many.clone();
        lines.extend(many.into_iter().rev());
        let ids: Vec<_> = folded(&lines).into_iter().map(|(id, ..)| id).collect();
        assert_eq!(ids, (0..LAYERS_MAX).map(|n| n.to_string()).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn there_is_never_more_here_than_the_size_where_an_engine_never_says_so(
            lines in prop::collection::vec(
                (0..3_u8, prop::sample::select(&["Waiting", "Downloading", "Extracting", "Pull complete"][..]), 0..9_u64, 0..9_u64),
                0..20,
            ),
        ) {
            let mut layers = Layers::default();
            for (id, status, less, more) in lines {
                // An engine does not change its mind about a size.
                let total = 9;
                layers.fold(&sign(&id.to_string(), status, Some(less.min(more)), Some(total)));
                prop_assert!(layers.0.iter().all(|l| l.total_bytes.is_none_or(|total| l.current_bytes <= total)));
            }
        }
    }
}
