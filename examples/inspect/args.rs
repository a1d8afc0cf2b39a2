//! The command line.

use std::error::Error;

const USAGE: &str = "usage: inspect METADATA.json [--snapshot ID | --ref NAME | --as-of TIME] [--map FROM=TO]... \
                     [--where SQL] [--columns a,b] [--hash]";

/// Which snapshot is meant.
#[derive(Debug, PartialEq)]
pub(crate) enum Pick {
    Current,
    Snapshot(i64),
    Ref(String),
    Time(String),
}

#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) metadata: String,
    pub(crate) pick: Pick,
    pub(crate) moved: Vec<(String, String)>,
    pub(crate) filter: Option<String>,
    pub(crate) columns: Option<Vec<String>>,
    pub(crate) hash: bool,
}

impl Args {
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut metadata = None;
        let mut picks = Vec::new();
        let mut args = Self {
            metadata: String::new(),
            pick: Pick::Current,
            moved: Vec::new(),
            filter: None,
            columns: None,
            hash: false,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} takes a value; {USAGE}"));
            match word.as_str() {
                "--snapshot" => {
                    picks.push(Pick::Snapshot(value()?.parse().map_err(|_| "a snapshot id is a number")?))
                }
                "--ref" => picks.push(Pick::Ref(value()?)),
                "--as-of" => picks.push(Pick::Time(value()?)),
                "--map" => {
                    let pair = value()?;
                    let (from, to) = pair.split_once('=').ok_or("--map takes FROM=TO")?;
                    args.moved.push((from.to_string(), location(to)?));
                }
                "--where" => args.filter = Some(value()?),
                "--columns" => {
                    args.columns = Some(value()?.split(',').map(|c| c.trim().to_string()).collect())
                }
                "--hash" => args.hash = true,
                "--help" | "-h" => return Err(USAGE.into()),
                _ if word.starts_with("--") => return Err(format!("unknown option {word}; {USAGE}").into()),
                _ if metadata.is_none() => metadata = Some(location(&word)?),
                _ => return Err(format!("one metadata file, not also {word}").into()),
            }
        }
        if picks.len() > 1 {
            return Err("one of --snapshot, --ref and --as-of, not several".into());
        }
        args.pick = picks.pop().unwrap_or(Pick::Current);
        args.metadata = metadata.ok_or(USAGE)?;
        Ok(args)
    }
}

/// A URL as it is, a path made absolute.
fn location(word: &str) -> Result<String, Box<dyn Error>> {
    if word.split_once(':').is_some_and(|(scheme, _)| scheme.chars().all(|c| c.is_ascii_alphanumeric())) {
        return Ok(word.to_string());
    }
    let path = std::path::absolute(word)?;
    Ok(path.to_str().ok_or("the path is not UTF-8")?.to_string())
}
