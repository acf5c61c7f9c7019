//! JOBS.json: what to compute, as it is written there.

use anyhow::{Context, Result, bail};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

/// One job.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// What its answer is called.
    pub id: String,
    /// The op's name.
    pub op: String,
    /// Argument names to names of tensors in IN.
    #[serde(default)]
    pub inputs: Members,
    /// Attributes by name.
    #[serde(default)]
    pub attrs: Members,
    /// Result names to names of tensors in OUT.
    #[serde(default)]
    pub outputs: Members,
}

/// The members of a JSON object but for those that are `null`: these are absent. No key comes twice.
#[derive(Default)]
pub struct Members(BTreeMap<String, Value>);

impl Members {
    /// The value of a key, if it is there.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Keys and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_unit<E: Error>(self) -> Result<Members, E> {
                Ok(Members::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if members.contains_key(&key) {
                        return Err(A::Error::custom(format!("the key `{key}` is there twice")));
                    }
                    members.insert(key, value);
                }
                members.retain(|_, value| !value.is_null());
                Ok(Members(members))
            }
        }

        deserializer.deserialize_any(Object)
    }
}

/// The jobs of a file, whose ids all differ.
pub fn read(path: &Path) -> Result<Vec<Job>> {
    let text = std::fs::read(path).with_context(|| format!("can't read the jobs in {}", path.display()))?;
    let jobs: Vec<Job> =
        serde_json::from_slice(&text).with_context(|| format!("{} is not an array of jobs", path.display()))?;
    let mut ids = HashSet::new();
    if let Some(job) = jobs.iter().find(|job| !ids.insert(job.id.as_str())) {
        bail!("{}: the id `{}` is there twice; every job needs one of its own", path.display(), job.id);
    }
    Ok(jobs)
}
