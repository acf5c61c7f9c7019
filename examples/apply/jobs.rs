//! Contents of JOBS.json, as parsed.

use anyhow::{Context, Result, bail};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::Path;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Identifier that the answer repeats.
    pub id: String,
    pub op: String,
    /// For each input name, the name of its tensor in the file IN.
    #[serde(default)]
    pub inputs: Members,
    /// Attributes by name.
    #[serde(default)]
    pub attrs: Members,
    /// For each output name, the name of its tensor in the file OUT.
    #[serde(default)]
    pub outputs: Members,
}

/// Members of a JSON object. Members that are `null` count as absent, and duplicate keys are an error.
#[derive(Default)]
pub struct Members(BTreeMap<String, Value>);

impl Members {
    /// Returns the value of a key, if present.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    /// Iterates over keys and values.
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
                        return Err(A::Error::custom(format!("the key `{key}` appears twice")));
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

/// Reads the jobs of a file. Fails if two jobs have the same id.
pub fn read(path: &Path) -> Result<Vec<Job>> {
    let text = std::fs::read(path).with_context(|| format!("can't read the jobs in {}", path.display()))?;
    let jobs: Vec<Job> =
        serde_json::from_slice(&text).with_context(|| format!("{} is not an array of jobs", path.display()))?;
    let mut ids = HashSet::new();
    if let Some(job) = jobs.iter().find(|job| !ids.insert(job.id.as_str())) {
        bail!("{}: the id `{}` appears twice; each job needs its own id", path.display(), job.id);
    }
    Ok(jobs)
}
