//! What it costs to put ten actions into one call: a warm sequence against a warm call of one of its steps.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use crate::api::{Action, Tenant};
use crate::args::Args;
use crate::client::{Calls, Connection};
use crate::drive::{self, Sample};
use crate::guests;
use crate::report::{Row, say};
use crate::server::Server;
use crate::throughput::{median, quantile_data, quantiles};

const STEPS: usize = 10;
/// Times the latency of one call.
const TIMES_MAX: f64 = 3.0;
const PARAMS: &str = r#"{"name":"stranger"}"#;

pub(crate) async fn sequence(args: &Args) -> Result<Vec<Row>> {
    let server = Server::start("").await?;
    let tenant = Tenant::new(&server, "bench", 100_000).await?;
    deploy(&server, &tenant).await?;
    let one = Calls::from(tenant.invoke("step-0", PARAMS)?);
    let all = Calls::from(tenant.invoke("chain", PARAMS)?);
    for calls in [&one, &all] {
        drive::closed(server.addr, calls, 1, args.measure / 4)
            .await?
            .checked()?;
    }
    let (mut times, mut last) = (Vec::new(), None);
    for round in 0..args.rounds {
        let one = latency(&server, &one, args).await?;
        let all = latency(&server, &all, args).await?;
        let ratio = all.quantile_ms(0.5) / one.quantile_ms(0.5);
        say(&format!(
            "  round {}: {}; one action {}; {ratio:.2} times",
            round + 1,
            quantiles(&all),
            quantiles(&one)
        ));
        times.push(ratio);
        last = Some((one, all));
    }
    let ratio = median(&times)?;
    let (figure, data) = match last {
        None => (String::new(), Value::Null),
        Some((one, all)) => (
            format!(
                "{ratio:.2} times: {}; one action {}",
                quantiles(&all),
                quantiles(&one)
            ),
            json!({ "times": times, "one": quantile_data(&one), "sequence": quantile_data(&all) }),
        ),
    };
    let goal = format!("p50 <= {TIMES_MAX} x one action's");
    let scenario = format!("sequence of {STEPS}");
    Ok(vec![Row::judged(
        &scenario,
        figure,
        &goal,
        ratio <= TIMES_MAX,
        data,
    )])
}

/// Ten actions that answer their parameters, each a program of its own, and the sequence of them.
async fn deploy(server: &Server, tenant: &Tenant) -> Result<()> {
    let module = guests::assemble(guests::ECHO)?;
    let mut components = Vec::new();
    for step in 0..STEPS {
        let name = format!("step-{step}");
        let code = guests::base64(&guests::distinct(&module, step)?);
        let action = Action {
            name: &name,
            code: &code,
            timeout_ms: 60_000,
        };
        tenant.deploy(server, &action, PARAMS, PARAMS).await?;
        components.push(format!("/_/{name}"));
    }
    let mut connection = Connection::open(server.addr).await?;
    let body = json!({ "exec": { "kind": "sequence", "components": components } });
    connection
        .call(&tenant.put_entity("actions/chain", &body)?)
        .await?;
    let got = connection.call(&tenant.invoke("chain", PARAMS)?).await?;
    let (got, wanted): (Value, Value) =
        (serde_json::from_slice(&got)?, serde_json::from_str(PARAMS)?);
    ensure!(got == wanted, "the sequence answered {got}, not {wanted}");
    Ok(())
}

async fn latency(server: &Server, calls: &Calls, args: &Args) -> Result<Sample> {
    drive::closed(server.addr, calls, 1, args.measure)
        .await?
        .checked()
}
