//! What a client sends to create or update an action, read leniently where OpenWhisk is lenient and refused in its
//! words where it is not.
//!
//! Unknown fields are ignored (clients send back what they got); `null` counts as absent. Nothing here knows what is
//! stored: defaults, merging and bounds are applied by whoever has both sides at hand, with [`LimitsPut::over`].

use serde::Deserialize;
use serde_json::value::RawValue;

use super::action::Version;
use super::kind::{self, Runtime};
use super::limits::{ActionLimits, EffectiveLimits, Range};
use super::params::{Annotations, Parameters};
use super::put::{self, Malformed, NamePut, typed};

/// The body of `PUT …/actions/{name}`.
#[derive(Debug, Clone, Default)]
pub struct ActionPut {
    /// What to run.
    pub exec: Option<ExecPut>,
    /// Replace those there are.
    pub parameters: Option<Parameters>,
    /// Laid over those there are, field by field.
    pub limits: LimitsPut,
    /// Instead of the next patch number.
    pub version: Option<Version>,
    /// Kept when absent.
    pub publish: Option<bool>,
    /// Laid over those there are, key by key.
    pub annotations: Option<Annotations>,
    /// Removed before `annotations` are laid over.
    pub del_annotations: Vec<String>,
}

/// `exec` of a body.
#[derive(Debug, Clone)]
pub enum ExecPut {
    /// Code.
    Code(CodePut),
    /// The components of a sequence, as many as were sent.
    Sequence(Vec<NamePut>),
}

/// Code of a body, its kind resolved.
#[derive(Debug, Clone)]
pub struct CodePut {
    /// The concrete kind.
    pub runtime: &'static Runtime,
    /// The code as sent.
    pub code: String,
    /// Entry point, when named.
    pub main: Option<String>,
}

/// `limits` of a body; signed, because a client may well send less than nothing and is told the bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct LimitsPut {
    timeout: Option<i64>,
    memory: Option<i64>,
    logs: Option<i64>,
    concurrency: Option<i64>,
    instances: Option<i64>,
}

#[derive(Deserialize)]
struct RawPut<'a> {
    #[serde(borrow, default)]
    exec: Option<&'a RawValue>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, default)]
    limits: Option<&'a RawValue>,
    #[serde(borrow, default)]
    version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    publish: Option<&'a RawValue>,
    #[serde(borrow, default)]
    annotations: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "delAnnotations")]
    del_annotations: Option<&'a RawValue>,
}

impl ActionPut {
    /// Reads a body.
    ///
    /// # Errors
    /// In the words of the wire, saying which field is wrong.
    pub fn parse(body: &[u8]) -> Result<Self, Malformed> {
        let raw: RawPut<'_> = put::body_of(body)?;
        let limits = raw.limits.map(LimitsPut::parse).transpose()?;
        Ok(Self {
            exec: raw.exec.map(ExecPut::parse).transpose()?,
            parameters: raw.parameters.map(put::parameters).transpose()?,
            limits: limits.unwrap_or_default(),
            version: raw.version.map(put::version).transpose()?,
            publish: raw.publish.map(put::publish).transpose()?,
            annotations: raw.annotations.map(put::annotations).transpose()?,
            del_annotations: raw
                .del_annotations
                .map(|raw| typed(raw, "'delAnnotations' must be an array of strings"))
                .transpose()?
                .unwrap_or_default(),
        })
    }
}

#[derive(Deserialize)]
struct RawExec<'a> {
    #[serde(borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    code: Option<&'a RawValue>,
    #[serde(borrow, default)]
    main: Option<&'a RawValue>,
    #[serde(borrow, default)]
    components: Option<&'a RawValue>,
}

impl ExecPut {
    fn parse(raw: &RawValue) -> Result<Self, Malformed> {
        const KIND: &str = "'kind' must be a string defined in 'exec'";
        if !raw.get().starts_with('{') {
            return Err(KIND.into());
        }
        let raw: RawExec<'_> = serde_json::from_str(raw.get())?;
        let given: String = typed(raw.kind.ok_or(KIND)?, KIND)?;
        if kind::is_sequence(&given) {
            return components(raw.components).map(Self::Sequence);
        }
        let Some(runtime) = kind::resolve(&given) else {
            return Err(Malformed(kind::unsupported(&given)));
        };
        CodePut::parse(runtime, &raw).map(Self::Code)
    }

    /// What the limit on code counts.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Code(code) => code.size(),
            // A sequence is bounded by the number of its components.
            Self::Sequence(_) => 0,
        }
    }
}

fn components(raw: Option<&RawValue>) -> Result<Vec<NamePut>, Malformed> {
    let raw = raw.ok_or("'components' must be defined for sequence kind")?;
    let all: Vec<&RawValue> = typed(raw, "'components' must be an array")?;
    all.into_iter().map(NamePut::parse).collect()
}

impl CodePut {
    fn parse(runtime: &'static Runtime, raw: &RawExec<'_>) -> Result<Self, Malformed> {
        let kind = runtime.kind;
        let no_code = format!(
            "'code' must be a string or attachment object defined in 'exec' for '{kind}' actions"
        );
        let code = raw.code.ok_or_else(|| Malformed(no_code.clone()))?;
        let main = match raw.main {
            Some(main) => {
                let wrong =
                    format!("if defined, 'main' be a string in 'exec' for '{kind}' actions");
                Some(typed(main, &wrong)?)
            }
            None if runtime.require_main => {
                return Err(Malformed(format!(
                    "'main' must be a string defined in 'exec' for '{kind}' actions"
                )));
            }
            None => None,
        };
        Ok(Self {
            runtime,
            code: typed(code, &no_code)?,
            main,
        })
    }

    /// What the limit on code counts: bytes of the code as sent, and of `main`.
    #[must_use]
    pub fn size(&self) -> usize {
        self.code.len() + self.main.as_ref().map_or(0, String::len)
    }

    /// Whether the code looks like base64: what OpenWhisk derives `binary` from.
    #[must_use]
    pub fn is_binary(&self) -> bool {
        let code = self.code.trim().as_bytes();
        let data = code.strip_suffix(b"==").or_else(|| code.strip_suffix(b"="));
        let is_digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/');
        !code.is_empty()
            && code.len().is_multiple_of(4)
            && data.unwrap_or(code).iter().all(is_digit)
    }
}

impl LimitsPut {
    fn parse(raw: &RawValue) -> Result<Self, Malformed> {
        #[derive(Deserialize)]
        struct Raw<'a> {
            #[serde(borrow, default)]
            timeout: Option<&'a RawValue>,
            #[serde(borrow, default)]
            memory: Option<&'a RawValue>,
            #[serde(borrow, default)]
            logs: Option<&'a RawValue>,
            #[serde(borrow, default)]
            concurrency: Option<&'a RawValue>,
            #[serde(borrow, default)]
            instances: Option<&'a RawValue>,
        }
        if !raw.get().starts_with('{') {
            return Err("limits malformed".into());
        }
        let raw: Raw<'_> = serde_json::from_str(raw.get())?;
        let instances = whole(raw.instances, "instance concurrency limit")?;
        if instances.is_some_and(i64::is_negative) {
            return Err(
                "requirement failed: Action container concurrency must be greater than or equal to 0."
                    .into(),
            );
        }
        Ok(Self {
            timeout: whole(raw.timeout, "time limit")?,
            memory: whole(raw.memory, "memory limit")?,
            logs: whole(raw.logs, "log limit")?,
            concurrency: whole(raw.concurrency, "intra concurrency limit")?,
            instances,
        })
    }

    /// These limits laid over `base`, if the result lies within `bounds`.
    ///
    /// # Errors
    /// The text of the wire that names the value and the bound it misses.
    pub fn over(
        self,
        base: &ActionLimits,
        bounds: &EffectiveLimits,
    ) -> Result<ActionLimits, String> {
        let timeout = self.timeout.unwrap_or_else(|| signed(base.timeout));
        let memory = self.memory.unwrap_or_else(|| signed(base.memory));
        let logs = self.logs.unwrap_or_else(|| signed(base.logs));
        let concurrency = self.concurrency.unwrap_or_else(|| signed(base.concurrency));
        let instances = self.instances.map(i64::unsigned_abs).or(base.instances);
        if instances.is_some_and(|count| count > bounds.instances_max) {
            return Err(format!(
                "Max action instance concurrency must not exceed your namespace concurrency of {}.",
                bounds.instances_max
            ));
        }
        Ok(ActionLimits {
            timeout: within(timeout, bounds.timeout, "duration", " milliseconds")?,
            memory: within(memory, bounds.memory, "memory size", " MB")?,
            logs: within(logs, bounds.logs, "log size", " MB")?,
            concurrency: within(concurrency, bounds.concurrency, "concurrency", "")?,
            instances,
        })
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn within(value: i64, bounds: Range, what: &str, unit: &str) -> Result<u64, String> {
    let (side, bound) = match u64::try_from(value) {
        Ok(value) if value > bounds.max => ("exceeds", bounds.max),
        Ok(value) if value >= bounds.min => return Ok(value),
        _ => ("below", bounds.min),
    };
    Err(format!(
        "requirement failed: {what} {value}{unit} {side} allowed threshold of {bound}{unit}"
    ))
}

/// A whole number, however it is written (`1e3` is one); beyond 64 bits it is the largest there is.
fn whole(raw: Option<&RawValue>, what: &str) -> Result<Option<i64>, Malformed> {
    let Some(raw) = raw else { return Ok(None) };
    if let Ok(number) = raw.get().parse::<i64>() {
        return Ok(Some(number));
    }
    match serde_json::from_str::<f64>(raw.get()) {
        Ok(number) if number.fract() != 0.0 => Err(Malformed(format!(
            "requirement failed: {what} must be whole number"
        ))),
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, and any bound refuses what it saturates to"
        )]
        Ok(number) => Ok(Some(number as i64)),
        Err(_) => Err(Malformed(format!("{what} malformed"))),
    }
}

#[cfg(test)]
#[path = "action_put_tests.rs"]
mod tests;
