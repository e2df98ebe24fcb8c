//! The same JavaScript beside workerd (npm `workerd`), which starts an isolate of V8 in a process that runs already.
//!
//! Cold: both processes are warm and have served thousands of calls; what is called is a script that neither has run. Wisp has its
//! action on disk only, since it was started again after the uploads. workerd is given the script by its `workerLoader` binding,
//! the one way it has to load a script while it runs: services in its configuration are compiled before it listens. The
//! source comes from memory there, and all of the call counts on both sides, HTTP included.
//!
//! Warm: one action, and one service of workerd's configuration with nothing in front of it, as it is fastest. workerd serves on
//! one thread, so on several cores the share says nothing of either engine.

use std::path::Path;

use anyhow::{Result, ensure};
use hyper::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::args::Args;
use crate::bare::Bare;
use crate::client::{Call, Calls, Connection};
use crate::cold::in_turns;
use crate::drive::{self, quantile_ms};
use crate::languages::{ANSWER, JAVASCRIPT, PARAMS};
use crate::other;
use crate::report::Row;
use crate::throughput::compare;

const COLD: &str = "JavaScript, first call, beside workerd";
const WARM: &str = "JavaScript, warm, of workerd";
/// How often workerd's first call must last as long as ours.
const GOAL: f64 = 5.0;

/// Takes a script from its loader for each path, which no two first calls share.
const ROUTER: &str = r"
const source = (path) => `const path = ${JSON.stringify(path)};
function main(params) {
  const name = params.name ?? 'stranger';
  return { greeting: \`Hello, \${name}!\` };
}
export default {
  async fetch(request) {
    return Response.json(main(await request.json()));
  },
};`;
export default {
  async fetch(request, env) {
    const path = new URL(request.url).pathname;
    const worker = env.LOADER.get(path, () => ({
      compatibilityDate: '2026-01-01',
      mainModule: 'main.js',
      modules: { 'main.js': source(path) },
    }));
    return worker.getEntrypoint().fetch(request);
  },
};
";

const ALONE: &str = r"
function main(params) {
  const name = params.name ?? 'stranger';
  return { greeting: `Hello, ${name}!` };
}
export default {
  async fetch(request) {
    return Response.json(main(await request.json()));
  },
};
";

/// `ROUTED` and `LONE` stand for addresses.
const CONFIG: &str = r#"
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [ (name = "routed", worker = .routed), (name = "alone", worker = .alone) ],
  sockets = [
    (name = "routed", address = "ROUTED", http = (), service = "routed"),
    (name = "alone", address = "LONE", http = (), service = "alone"),
  ],
);
const routed :Workerd.Worker = (
  modules = [ (name = "router.js", esModule = embed "router.js") ],
  compatibilityDate = "2026-01-01",
  bindings = [ (name = "LOADER", workerLoader = ()) ],
);
const alone :Workerd.Worker = (
  modules = [ (name = "alone.js", esModule = embed "alone.js") ],
  compatibilityDate = "2026-01-01",
);
"#;

pub(crate) async fn run(args: &Args) -> Result<Vec<Row>> {
    let workerd = match other::find("workerd", "WISP_BENCH_WORKERD") {
        Ok(found) => found,
        Err(why) => return Ok(vec![Row::left_out(COLD, &why)]),
    };
    other::introduce(&workerd, "serve --experimental").await?;
    let folder = TempDir::with_prefix("workerd-")?;
    Ok(vec![
        cold(args, &workerd, &folder).await?,
        warm(args, &workerd, &folder).await?,
    ])
}

/// Which of its two services is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Service {
    Routed,
    Alone,
}

async fn start(workerd: &Path, folder: &TempDir, service: Service) -> Result<Bare> {
    let (routed, alone) = (other::free_address()?, other::free_address()?);
    let config = CONFIG.replace("ROUTED", &routed.to_string());
    let config = config.replace("LONE", &alone.to_string());
    let files = [
        ("config.capnp", config.as_str()),
        ("router.js", ROUTER),
        ("alone.js", ALONE),
    ];
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text)?;
    }
    let mut command = Command::new(workerd);
    command
        .args(["serve", "--experimental", "config.capnp"])
        .current_dir(folder.path());
    let addr = match service {
        Service::Routed => routed,
        Service::Alone => alone,
    };
    let other = other::start(command, addr).await?;
    let call = Call::new(Method::POST, "/", "", PARAMS)?;
    let got = Connection::open(addr).await?.call(&call).await?;
    let (got, wanted): (Value, Value) =
        (serde_json::from_slice(&got)?, serde_json::from_str(ANSWER)?);
    ensure!(got == wanted, "workerd answered {got}, not {wanted}");
    Ok(other)
}

async fn cold(args: &Args, workerd: &Path, folder: &TempDir) -> Result<Row> {
    let (mut server, tenant) = JAVASCRIPT.ready().await?;
    let (puts, calls) = JAVASCRIPT.actions(&tenant, 1..args.count(301, 31))?;
    drive::each(server.addr, puts, 2, "actions made").await?;
    server.restart().await?;
    let other = start(workerd, folder, Service::Routed).await?;
    let warm = tenant.invoke("hello-0", PARAMS)?;
    let (mine, mine_warm) = in_turns(server.addr, &calls, &warm).await?;
    let (theirs, theirs_warm) = in_turns(other.addr, &calls, &warm).await?;
    let ms = |latency, quantile| quantile_ms(latency, quantile);
    let ratio = ms(&theirs, 0.5) / ms(&mine, 0.5);
    let figure = format!(
        "{ratio:.1} x: p50 {:.3} ms, p99 {:.3} ms; workerd {:.3} and {:.3} ms",
        ms(&mine, 0.5),
        ms(&mine, 0.99),
        ms(&theirs, 0.5),
        ms(&theirs, 0.99)
    );
    let data = json!({
        "calls": mine.len(), "ratio": ratio,
        "wispMs": { "p50": ms(&mine, 0.5), "p99": ms(&mine, 0.99), "warm": ms(&mine_warm, 0.5) },
        "workerdMs": { "p50": ms(&theirs, 0.5), "p99": ms(&theirs, 0.99), "warm": ms(&theirs_warm, 0.5) },
    });
    let goal = format!(">= {GOAL:.0} x");
    Ok(Row::judged(COLD, figure, &goal, ratio >= GOAL, data))
}

async fn warm(args: &Args, workerd: &Path, folder: &TempDir) -> Result<Row> {
    let (server, tenant) = JAVASCRIPT.ready().await?;
    let other = start(workerd, folder, Service::Alone).await?;
    let calls = Calls::from(tenant.invoke("hello-0", PARAMS)?);
    let compared = compare(args, &server, &other, &calls).await?;
    Ok(compared.shown(WARM))
}
