//! Nothing of a secret lies about: after many credentials, deployments and failures,
//! everything that is written down anywhere is searched for every value that there was.
//!
//! The course is drawn at random. `A67_PROOF_SEED` repeats one, `A67_PROOF_OPERATIONS`
//! says how many operations there are.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use system_tests::{
    fleet::Fleet,
    spec::Spec,
    wait::{note, seconds, until},
};

/// In an ordinary run: about two minutes on an idle machine of two cores.
const OPERATIONS: u32 = 1000;
/// Every form of a value is looked for by so many bytes of it.
const NEEDLE: usize = 16;

/// SplitMix64 (Steele and others, 2014): a course that can be repeated.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        usize::try_from(self.next() % most as u64).unwrap()
    }

    /// A text with what encodings change in it.
    fn text(&mut self) -> String {
        format!("{:08x}$+/{:016x}", self.next() & 0xffff_ffff, self.next())
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..6).flat_map(|_| self.next().to_be_bytes()).collect()
    }
}

/// Everything that was ever secret, and where it may be seen.
#[derive(Default)]
struct Looked {
    needles: HashMap<[u8; NEEDLE], usize>,
    /// By the first three bytes, so that most places need one look.
    begins: Vec<bool>,
    /// Values that were given as variables, which the engine shows.
    variables: HashSet<usize>,
    values: usize,
}

impl Looked {
    fn add(&mut self, value: &[u8]) -> usize {
        let number = self.values;
        self.values += 1;
        let plain = |byte: u8| byte.is_ascii_alphanumeric().then(|| char::from(byte).to_string());
        let url = |upper: bool| -> String {
            let coded = |b: &u8| if upper { format!("%{b:02X}") } else { format!("%{b:02x}") };
            value.iter().map(|b| plain(*b).unwrap_or_else(|| coded(b))).collect()
        };
        let hex: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut forms = vec![value.to_vec(), url(true).into(), url(false).into()];
        forms.extend([hex.to_uppercase().into_bytes(), hex.into_bytes()]);
        // In a longer text in base64 it may begin at any of three places.
        forms.extend((0..3).map(|skip| STANDARD.encode(&value[skip..]).into_bytes()));
        for form in forms {
            let needle: [u8; NEEDLE] = form[..NEEDLE].try_into().unwrap();
            self.begins.resize(1 << 24, false);
            self.begins[begin(&needle)] = true;
            self.needles.insert(needle, number);
        }
        number
    }

    /// The values that occur in some bytes.
    fn found(&self, bytes: &[u8]) -> HashSet<usize> {
        let begins = bytes.windows(NEEDLE).filter(|window| self.begins[begin(window)]);
        begins.filter_map(|window| self.needles.get(window).copied()).collect()
    }
}

/// The first three bytes as a number.
fn begin(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2])
}

struct Course {
    fleet: Fleet,
    chance: Chance,
    looked: Looked,
    credentials: Vec<(String, &'static str)>,
    /// The value that each credential has now.
    now: HashMap<String, Vec<usize>>,
    deployments: Vec<(String, Vec<String>)>,
    answers: String,
    made: usize,
}

impl Course {
    async fn ask(&mut self, method: Method, path: &str, body: Option<String>) -> u16 {
        let answer = self.fleet.api.send(method, path, body).await.unwrap();
        self.answers.push_str(&format!("{} {:?} {}\n", answer.status, answer.headers, answer.body));
        answer.status
    }

    /// A body with a new value of this kind, and its numbers.
    fn value(&mut self, kind: &'static str) -> (Value, Vec<usize>) {
        match (kind, self.chance.below(3)) {
            ("registry", _) => {
                let password = self.chance.text();
                let number = self.looked.add(password.as_bytes());
                let login = json!({"server": "r.invalid:5000", "username": "bot", "password": password});
                (json!({"registry": login}), vec![number])
            }
            (_, 0) => {
                let bytes = self.chance.bytes();
                let number = self.looked.add(&bytes);
                (json!({"value_base64": STANDARD.encode(&bytes)}), vec![number])
            }
            (_, 1) => {
                let (one, other) = (self.chance.text(), self.chance.text());
                let numbers = vec![self.looked.add(one.as_bytes()), self.looked.add(other.as_bytes())];
                (json!({"data": {"one": one, "deep": {"other": other}}}), numbers)
            }
            _ => {
                let text = self.chance.text();
                let number = self.looked.add(text.as_bytes());
                (json!({"value": text}), vec![number])
            }
        }
    }

    fn some_credential(&mut self) -> Option<(String, &'static str)> {
        let count = self.credentials.len();
        (count > 0).then(|| self.credentials[self.chance.below(count)].clone())
    }

    async fn create(&mut self) {
        let kind = if self.chance.below(5) == 0 { "registry" } else { "secret" };
        self.made += 1;
        let name = format!("c-{}", self.made);
        let (mut body, numbers) = self.value(kind);
        body["name"] = name.as_str().into();
        body["kind"] = kind.into();
        // One login for each registry and project.
        if self.ask(Method::POST, "/credentials", Some(body.to_string())).await < 300 {
            self.credentials.push((name.clone(), kind));
            self.now.insert(name, numbers);
        }
    }

    async fn replace(&mut self) {
        let Some((name, kind)) = self.some_credential() else { return };
        let (body, numbers) = self.value(kind);
        if self.ask(Method::PUT, &format!("/credentials/{name}/value"), Some(body.to_string())).await < 300 {
            self.now.entry(name).or_default().extend(numbers);
        }
    }

    async fn look(&mut self) {
        let Some((name, _)) = self.some_credential() else { return };
        for rest in ["", "/versions", "/used-by"] {
            self.ask(Method::GET, &format!("/credentials/{name}{rest}"), None).await;
        }
        self.ask(Method::POST, &format!("/credentials/{name}/reveal"), Some("{}".into())).await;
        let body = json!({"version": 1}).to_string();
        self.ask(Method::POST, &format!("/credentials/{name}/rollback"), Some(body)).await;
        self.ask(Method::GET, "/credentials", None).await;
    }

    /// Requests that are wrong, each with a value in it.
    async fn mistake(&mut self) {
        let text = self.chance.text();
        self.looked.add(text.as_bytes());
        let wrong = [
            json!({"name": "x", "kind": "secret", "value": text, "valeu": 1}).to_string(),
            json!({"name": "Not A Name", "kind": "secret", "value": text}).to_string(),
            json!({"name": "x", "kind": "tls", "tls": {"certificate": text, "private_key": text}})
                .to_string(),
            json!({"name": "x", "kind": "secret", "value_base64": text}).to_string(),
            json!({"name": "x", "kind": "registry", "value": text}).to_string(),
            format!("{{\"name\": \"x\", \"value\": \"{text}\""),
        ];
        let body = wrong[self.chance.below(wrong.len())].clone();
        let status = self.ask(Method::POST, "/credentials", Some(body)).await;
        assert!((400..500).contains(&status), "{status}");
        let body = json!({"value": text}).to_string();
        self.ask(Method::PUT, "/credentials/not-there/value", Some(body)).await;
    }

    async fn delete(&mut self) {
        let Some((name, _)) = self.some_credential() else { return };
        if self.ask(Method::DELETE, &format!("/credentials/{name}"), None).await < 300 {
            self.credentials.retain(|(other, _)| *other != name);
        }
    }

    async fn deploy(&mut self) {
        if self.deployments.len() >= 3 {
            let (name, _) = self.deployments.remove(0);
            self.ask(Method::DELETE, &format!("/deployments/{name}"), None).await;
        }
        let Some((credential, "secret")) = self.some_credential() else { return };
        self.made += 1;
        let name = format!("d-{}", self.made);
        let as_variable = self.chance.below(3) == 0;
        let target = if as_variable { json!({"env": "KEY"}) } else { json!({"file": "/run/key"}) };
        let spec = Spec::new(&name).set("secrets", json!([{"credential": credential, "as": target}]));
        if self.ask(Method::POST, "/deployments", Some(spec.json().to_string())).await < 300 {
            let variables = if as_variable { vec![credential] } else { Vec::new() };
            self.deployments.push((name, variables));
        }
    }

    async fn fail(&mut self) {
        match self.chance.below(4) {
            0 => {
                self.fleet.controller.kill();
                self.fleet.controller.start().await;
            }
            1 | 2 => {
                self.fleet.agents[0].kill();
                self.fleet.agents[0].start();
            }
            _ => {
                let host = self.fleet.bed.host(1);
                // One may go away while they are listed.
                let all = host.containers().unwrap_or_default();
                if let Some(container) = all.into_iter().find(|c| c.is_running()) {
                    // It may have ended by itself.
                    let _ = host.docker(&["kill", &container.id]);
                }
            }
        }
    }

    async fn step(&mut self) {
        match self.chance.below(100) {
            0..28 => self.create().await,
            28..55 => self.replace().await,
            55..65 => self.look().await,
            65..78 => self.mistake().await,
            78..85 => self.delete().await,
            85..97 => self.deploy().await,
            _ => self.fail().await,
        }
        for (_, variables) in &self.deployments {
            for credential in variables {
                self.looked.variables.extend(self.now.get(credential).into_iter().flatten());
            }
        }
    }
}

fn files_below(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let below = entries.flat_map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => files_below(&entry.path()),
        Ok(kind) if kind.is_file() => vec![entry.path()],
        _ => Vec::new(),
    });
    below.collect()
}

fn dump(data_dir: &Path) -> Vec<u8> {
    let programs = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs: Vec<PathBuf> = programs.map(|entry| entry.path().join("bin/pg_dump")).collect();
    programs.sort();
    let program = programs.pop().unwrap_or_else(|| "pg_dump".into());
    let output = Command::new(program)
        .arg("-h")
        .arg(data_dir.join("postgres/run"))
        .args(["-U", "automator67", "automator67"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_is_anywhere_but_where_it_is_declared_to_be() {
    let seed = setting("A67_PROOF_SEED").unwrap_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0);
    let operations = setting("A67_PROOF_OPERATIONS").unwrap_or(OPERATIONS.into());
    println!("A67_PROOF_SEED={seed} A67_PROOF_OPERATIONS={operations}");
    let mut fleet = Fleet::of(1).await;
    fleet.controller.kill();
    fleet.agents[0].kill();
    fleet.controller.set("A67_LOG", "trace");
    fleet.agents[0].log_filter("trace");
    fleet.controller.start().await;
    fleet.agents[0].start();
    fleet.all_ready().await;
    let mut course = Course {
        fleet,
        chance: Chance(seed),
        looked: Looked::default(),
        credentials: Vec::new(),
        now: HashMap::new(),
        deployments: Vec::new(),
        answers: String::new(),
        made: 0,
    };
    // What is no secret, and looks like one: the search has to find it.
    let control = course.chance.text();
    let planted = course.looked.add(control.as_bytes());
    let spec = Spec::new("control").set("env", json!({"CONTROL": control}));
    course.fleet.runs("control", &spec).await;
    course.ask(Method::GET, "/deployments/control", None).await;
    for number in 1..=operations {
        course.step().await;
        if number % 100 == 0 {
            note(&format!("{number} operations"));
        }
    }
    course.fleet.all_ready().await;
    // The last of what was declared has got as far as it gets.
    until("no copy is on its way", seconds(120), async || {
        let running = course.fleet.bed.host(1).containers()?.iter().filter(|c| c.is_running()).count();
        anyhow::ensure!(running > course.deployments.len() / 2, "{running} run");
        Ok(())
    })
    .await;
    search(&mut course, planted).await;
}

async fn search(course: &mut Course, planted: usize) {
    for path in ["/audit?limit=500", "/events?limit=500", "/deployments?limit=500"] {
        course.ask(Method::GET, path, None).await;
    }
    let host = course.fleet.bed.host(1).clone();
    let mut inspected = String::new();
    let all = until("the containers are listed", seconds(60), async || host.containers()).await;
    for container in all {
        // One that goes away meanwhile shows nothing any more.
        inspected.push_str(&host.docker(&["inspect", &container.id]).unwrap_or_default());
    }
    let agent = &course.fleet.agents[0];
    let mut places = vec![
        ("the dump".to_owned(), dump(&course.fleet.controller.data_dir())),
        ("answers".to_owned(), course.answers.clone().into_bytes()),
        ("docker inspect".to_owned(), inspected.into_bytes()),
        ("the agent's log".to_owned(), fs::read(agent.log_path()).unwrap()),
        (
            "the controller's log".to_owned(),
            fs::read(course.fleet.scratch.path().join("controller.log")).unwrap(),
        ),
    ];
    for path in files_below(agent.data_dir()) {
        // One that was replaced meanwhile is there under its name again.
        places.push((path.display().to_string(), fs::read(&path).unwrap_or_default()));
    }
    let sizes: Vec<_> = places.iter().map(|(place, bytes)| (place, bytes.len())).take(5).collect();
    println!("{} values in {} files: {sizes:?}", course.looked.values, places.len());
    assert!(sizes.iter().all(|(_, size)| *size > 1000), "there is nothing to search: {sizes:?}");
    let mut hits = Vec::new();
    for (place, bytes) in &places {
        let found = course.looked.found(bytes);
        if ["the dump", "answers", "docker inspect"].contains(&place.as_str()) {
            assert!(found.contains(&planted), "the search does not find what is in {place}");
        }
        let excused =
            |n: &usize| *n == planted || (place == "docker inspect" && course.looked.variables.contains(n));
        hits.extend(found.into_iter().filter(|n| !excused(n)).map(|n| format!("value {n} in {place}")));
    }
    assert!(hits.is_empty(), "{hits:#?}");
}
