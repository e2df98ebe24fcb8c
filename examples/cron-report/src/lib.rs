//! A report of figures, written every minute by a trigger: the figures come from the trigger, or from whoever fires it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wisp_action::{Result, bail, context, log};

#[derive(Deserialize)]
struct Params {
    title: String,
    /// Name to figures, oldest first.
    figures: BTreeMap<String, Vec<f64>>,
}

#[derive(Debug, Serialize, PartialEq)]
struct Report {
    text: String,
    /// Figures whose last value is more than twice their mean.
    unusual: Vec<String>,
}

#[wisp_action::main]
fn main(params: Params) -> Result<Report> {
    let report = report(&params)?;
    for line in report.text.lines() {
        log!("{line}");
    }
    if let Some(id) = context::activation_id() {
        log!("written by activation {id}");
    }
    Ok(report)
}

fn report(params: &Params) -> Result<Report> {
    let mut text = format!("# {}\n", params.title);
    let mut unusual = Vec::new();
    for (name, values) in &params.figures {
        let Some(last) = values.last() else {
            bail!("{name} has no figures");
        };
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        text += &format!("{name}: {last} now, {mean:.1} on average, from {least} to {most}\n");
        if values.len() > 1 && *last > 2.0 * mean {
            unusual.push(name.clone());
        }
    }
    Ok(Report { text, unusual })
}

#[cfg(test)]
mod tests {
    use super::{Params, report};

    #[test]
    fn what_is_unusual_is_named() {
        let figures = [("errors", vec![1.0, 0.0, 9.0]), ("orders", vec![5.0, 6.0])];
        let figures = figures.map(|(name, values)| (name.to_owned(), values)).into();
        let title = "Shop".to_owned();
        let report = report(&Params { title, figures }).unwrap();
        assert_eq!(report.unusual, ["errors"]);
        assert!(report.text.contains("errors: 9 now, 3.3 on average, from 0 to 9"));
    }
}
