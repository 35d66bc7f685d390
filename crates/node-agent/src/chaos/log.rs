//! A line of ten megabytes.

use bytes::Bytes;
use futures_util::StreamExt as _;
use protocol::LOG_LINE_MAX_BYTES;

use super::*;
use crate::{
    logs::{self, LogsRequest},
    runtime::{LogChunk, LogsQuery, Runtime},
};

const LINE: usize = 10 * 1024 * 1024;

#[tokio::test]
async fn a_line_of_ten_megabytes_comes_in_parts_of_bounded_size_and_nothing_of_it_is_lost() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), FakeRuntime::default());
    let node = Node::start(dir.path(), &engine, quick());
    node.assign([assignment(1)]).await;
    until("it runs", || node.is_healthy(1)).await;
    let text: Vec<u8> = (0..LINE).map(|n| b'a' + u8::try_from(n % 26).unwrap()).collect();
    let write = |bytes: &[u8]| {
        let bytes = Bytes::copy_from_slice(bytes);
        engine.write_log(id(1), LogChunk { at: Some(domain::Timestamp::UNIX_EPOCH), stderr: false, bytes });
    };
    // As the engine cuts it, which heeds no limit of ours.
    text.chunks(16 * 1024 + 1).for_each(write);
    write(b"\nnext\n");

    let container_id = engine.container(id(1)).unwrap().container_id;
    let query = LogsQuery { tail: None, since: None, until: None, follow: false };
    let runtime: Arc<dyn Runtime> = Arc::new(engine.clone());
    let lines: Vec<_> =
        logs::open(&runtime, &LogsRequest { container_id, query }).map(Result::unwrap).collect().await;
    let (last, parts) = lines.split_last().unwrap();
    assert_eq!((last.text.as_ref(), last.partial), (&b"next"[..], false), "the line after it is whole");
    assert!(parts.iter().all(|part| part.text.len() <= LOG_LINE_MAX_BYTES));
    assert_eq!(parts.len(), LINE.div_ceil(LOG_LINE_MAX_BYTES));
    let (end, others) = parts.split_last().unwrap();
    assert!(others.iter().all(|part| part.partial) && !end.partial);
    assert_eq!(parts.iter().flat_map(|part| part.text.iter().copied()).collect::<Vec<u8>>(), text);
    node.stop().await;
}
