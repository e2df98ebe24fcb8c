//! Plays cases against a server: each in a namespace of its own, several at one time.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

use super::case::{Case, Expect, File, Step, Who, code};
use super::check::{differences, differences_of_run, short};
use super::vars::Vars;
use crate::harness::{
    GUEST_KEY, Reply, Request, SYSTEM_KEY, Server, Tenant, basic, binary, pause, run_to_end,
};

/// Cases at one time: enough to hide each other's waits, few enough that a small machine keeps its time.
const PARALLEL: usize = 8;

/// A key of the right form that nobody has.
const BAD_KEY: &str = "00000000-0000-4000-8000-000000000000:xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

/// What went wrong, by case, in the order of the file.
pub(super) fn play(server: &Server, file: &File) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = file.cases.get(index) else {
                break;
            };
            if let Err(failure) = play_case(server, case) {
                let failure = format!("section {}: {}\n{failure}", file.section, case.name);
                failures
                    .lock()
                    .expect("not poisoned")
                    .push((index, failure));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(work);
        }
    });
    let mut failures = failures.into_inner().expect("not poisoned");
    failures.sort();
    failures.into_iter().map(|(_, failure)| failure).collect()
}

/// Plays it, and again as long as a minute turned that must not.
fn play_case(server: &Server, case: &Case) -> Result<(), String> {
    let minute = || wisp::model::Timestamp::now().millis() / 60_000;
    loop {
        let began = minute();
        let played = catch_unwind(AssertUnwindSafe(|| play_once(server, case)));
        let played = played.unwrap_or_else(|_| Err("  panicked, see above\n".to_owned()));
        if played.is_ok() || !case.within_a_minute || minute() == began {
            return played;
        }
    }
}

fn play_once(server: &Server, case: &Case) -> Result<(), String> {
    let own = (!case.server.is_empty()).then(|| Server::start(&case.server.to_string()));
    let server = own.as_ref().unwrap_or(server);
    let tenant = server.tenant();
    let mut vars = Vars::default();
    introduce(&mut vars, "", &tenant);
    let other = format!("{case:?}")
        .to_lowercase()
        .contains("other")
        .then(|| server.tenant());
    if let Some(other) = &other {
        introduce(&mut vars, "other.", other);
        vars.set("other", other.namespace.as_str());
    }
    vars.set("ns", tenant.namespace.as_str());
    vars.set("guest.key", GUEST_KEY);
    vars.set("system.key", SYSTEM_KEY);
    vars.set("host", server.address.to_string());
    let mut player = Player {
        server,
        keys: [
            tenant.key.clone(),
            other.map(|other| other.key).unwrap_or_default(),
        ],
        vars,
        home: None,
    };
    for (name, text) in &case.files {
        let text = player.vars.text(text);
        std::fs::write(player.home().join(name), text).expect("a file of the case");
    }
    for (what, steps) in [("setup", &case.setup), ("step", &case.steps)] {
        for (index, step) in steps.iter().enumerate() {
            let played = player.step(step);
            played.map_err(|failure| format!("  {what} {}: {failure}", index + 1))?;
        }
    }
    Ok(())
}

fn introduce(vars: &mut Vars, prefix: &str, tenant: &Tenant) {
    let uuid = tenant.key.split(':').next().unwrap_or_default();
    vars.set(&format!("{prefix}key"), tenant.key.as_str());
    vars.set(&format!("{prefix}uuid"), uuid);
    vars.set(&format!("{prefix}basic"), basic(&tenant.key));
}

struct Player<'a> {
    server: &'a Server,
    /// Of the namespace, and of the other one.
    keys: [String; 2],
    vars: Vars,
    /// Where the client runs, once it does.
    home: Option<TempDir>,
}

/// What a step did: what came back, what is wrong with it, and how it reads in a failure.
struct Came {
    reply: Reply,
    wrong: Vec<String>,
    what: String,
}

impl Player<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let deadline = Instant::now() + Duration::from_secs(step.until.unwrap_or(0));
        let Came { reply, what, .. } = loop {
            let came = match step.run.is_empty() {
                true => self.send(step)?,
                false => self.run(step),
            };
            if came.wrong.is_empty() {
                break came;
            }
            if Instant::now() >= deadline {
                let Came { reply, wrong, what } = came;
                let wrong: String = wrong.iter().map(|line| format!("    {line}\n")).collect();
                return Err(format!("{what}\n{wrong}    answered {}\n", answer(&reply)));
            }
            pause(Duration::from_millis(20));
        };
        for (name, from) in &step.capture {
            let value = captured(&reply, from);
            let value = value.ok_or_else(|| {
                format!(
                    "{what}\n    nothing at {from} to capture; answered {}\n",
                    answer(&reply)
                )
            })?;
            self.vars.set(name, value);
        }
        Ok(())
    }

    fn send(&self, step: &Step) -> Result<Came, String> {
        let request = self.request(step);
        let what = shown(&request);
        let client = self.server.client();
        let reply = match &step.reads {
            Some(text) => client.try_send_until(&request, &self.vars.text(text)),
            None => client.try_send(&request),
        };
        let reply = reply.map_err(|error| format!("{what}\n    no answer: {error}\n"))?;
        let wrong = match &step.expect {
            Some(expect) => differences(expect, &self.vars, &reply),
            None => succeeded(&reply),
        };
        Ok(Came { reply, wrong, what })
    }

    /// A user's folder, with the properties of the server and the namespace.
    fn home(&mut self) -> std::path::PathBuf {
        let (address, key) = (self.server.url(), &self.keys[0]);
        let home = self.home.get_or_insert_with(|| {
            let home = TempDir::new().expect("a temporary folder");
            let properties = format!("APIHOST={address}\nAUTH={key}\n");
            std::fs::write(home.path().join(".wskprops"), properties).expect("properties");
            home
        });
        home.path().to_owned()
    }

    fn run(&mut self, step: &Step) -> Came {
        let home = self.home();
        let args: Vec<String> = step.run.iter().map(|arg| self.vars.text(arg)).collect();
        let mut command = binary();
        command.args(&args).env("HOME", &home).current_dir(&home);
        let (exit, out, errors) = run_to_end(command);
        let reply = Reply {
            status: 0,
            headers: Vec::new(),
            body: (out + &errors).into_bytes(),
        };
        let succeeds = Expect {
            exit: Some(0),
            ..Expect::default()
        };
        let expect = step.expect.as_ref().unwrap_or(&succeeds);
        let wrong = differences_of_run(expect, &self.vars, exit, &reply);
        let what = format!("wisp {}", args.join(" "));
        Came { reply, wrong, what }
    }

    fn request(&self, step: &Step) -> Request {
        let (method, path) = step.send.split_once(' ').expect("`METHOD path`");
        let path = self.vars.text(path);
        let is_web = path.starts_with("web/");
        let path = match path.strip_prefix("web/") {
            Some(rest) => format!("/api/v1/web/{}/{rest}", self.vars.text("{ns}")),
            None if path.starts_with('/') => path,
            None => format!("/api/v1/namespaces/_/{path}"),
        };
        let mut request = Request::new(method, &path);
        let key = match &step.who {
            None if is_web => None,
            None | Some(Who::Own) => Some(self.keys[0].clone()),
            Some(Who::Other) => Some(self.keys[1].clone()),
            Some(Who::Guest) => Some(GUEST_KEY.to_owned()),
            Some(Who::System) => Some(SYSTEM_KEY.to_owned()),
            Some(Who::Bad) => Some(BAD_KEY.to_owned()),
            Some(Who::Basic(key)) => Some(self.vars.text(key)),
            Some(Who::Raw(header)) => {
                request = request.header("Authorization", self.vars.text(header));
                None
            }
            Some(Who::None) => None,
        };
        if let Some(key) = key {
            request = request.key(&key);
        }
        for (name, value) in &step.headers {
            let value = self.vars.json(value);
            let all = match value {
                Value::Array(all) => all,
                one => vec![one],
            };
            for one in &all {
                request = request.header(name, one.as_str().expect("headers are texts"));
            }
        }
        self.with_body(request, step)
    }

    fn with_body(&self, mut request: Request, step: &Step) -> Request {
        let json = step.json.as_ref().map(|json| self.vars.json(json));
        let json = match &step.code {
            Some(name) => {
                let mut body = json.unwrap_or_else(|| json!({}));
                body["exec"]["code"] = code(&self.vars.text(name)).into();
                if body["exec"]["kind"].is_null() {
                    body["exec"]["kind"] = "wasm:1".into();
                }
                Some(body)
            }
            None => json,
        };
        let bytes = match (json, &step.text, &step.base64) {
            (None, None, None) => None,
            (Some(json), None, None) => Some(json.to_string().into_bytes()),
            (None, Some(text), None) => Some(self.vars.text(text).into_bytes()),
            (None, None, Some(text)) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                Some(bytes.expect("base64 in a case"))
            }
            _ => panic!("one body at most: json (with code), text or base64"),
        };
        let is_json = step.json.is_some() || step.code.is_some();
        match (&step.content_type, is_json) {
            (Some(given), _) => request = request.header("Content-Type", self.vars.text(given)),
            (None, true) => request = request.header("Content-Type", "application/json"),
            (None, false) => {}
        }
        request.body = bytes;
        request
    }
}

fn succeeded(reply: &Reply) -> Vec<String> {
    match reply.status {
        200..=299 => Vec::new(),
        status => vec![format!("status: expected success, got {status}")],
    }
}

fn captured(reply: &Reply, from: &str) -> Option<Value> {
    if let Some(name) = from.strip_prefix("header:") {
        return reply.header(name).map(Value::from);
    }
    let body: Value = serde_json::from_slice(&reply.body).ok()?;
    body.pointer(from).cloned()
}

fn shown(request: &Request) -> String {
    let body = request.body.as_deref().unwrap_or_default();
    let body = String::from_utf8_lossy(body);
    format!(
        "{} {} {}",
        request.method,
        short(&request.path),
        short(&body)
    )
}

/// Status, the headers that differ from answer to answer, and the body, short enough for a failure message.
fn answer(reply: &Reply) -> String {
    const ALIKE: [&str; 4] = ["date", "connection", "content-length", "x-request-id"];
    let telling = |name: &str| !ALIKE.contains(&name) && !name.starts_with("access-control");
    let mut headers = String::new();
    for (name, value) in reply.headers.iter().filter(|(name, _)| telling(name)) {
        write!(headers, " {name}: {value};").expect("writes to a string");
    }
    format!("{}{headers} {}", reply.status, short(&reply.text()))
}

/// What is wrong with the file itself.
pub(super) fn faults(file: &File) -> Vec<String> {
    let mut faults = Vec::new();
    for case in &file.cases {
        let bare = case
            .steps
            .iter()
            .any(|step| step.expect.as_ref().is_none_or(is_bare));
        if case.steps.is_empty() || bare {
            faults.push(format!("{}: every step expects a status", case.name));
        }
        let mut all = case.setup.iter().chain(&case.steps);
        if !all.all(|step| step.send.is_empty() != step.run.is_empty()) {
            faults.push(format!("{}: every step sends or runs", case.name));
        }
        if file
            .cases
            .iter()
            .filter(|one| one.name == case.name)
            .count()
            > 1
        {
            faults.push(format!("{}: two cases have this name", case.name));
        }
    }
    faults
}

fn is_bare(expect: &Expect) -> bool {
    expect.status == 0 && expect.exit.is_none()
}
