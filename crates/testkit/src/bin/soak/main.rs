//! Hands damaged files to the readers of what nobody vouches for, until the time is over or one of them fails.
//!
//! ```text
//! soak NAME|all [--seed S] [--minutes M]     the inputs of a seed, from the first on
//! soak NAME --seed S --input I               one of them
//! soak names                                 what there is to soak
//! ```
//!
//! An input is made of the seed, its number and the files that are started from: a failure is told with both numbers, and comes
//! again with them as long as these files stay. It is written to a file too, which belongs into `fuzz/corpus` once it is mended:
//! every run begins with that folder's files as they are. The readers run in a process of their own, under the limit on memory;
//! a panic, an abort, or no end of one input within a minute of the processor's time is a failure.

mod drops;
mod mutate;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mutate::{Corpus, input};

/// Address space of the process that reads, in KiB.
const MEMORY_KIB: u64 = 2 << 20;
/// The processor's time that one input may take.
const HANG: Duration = Duration::from_secs(60);
/// The same, of a reader that waits, on a machine that has other things to do.
const STILL: Duration = Duration::from_secs(600);

/// Reads one input.
type Reader = fn(&[u8]);

/// What there is to soak: the readers of both crates, and a drop as a whole.
fn soaks() -> Vec<(&'static str, Reader)> {
    let ingest = icefield_ingest::untrusted::KINDS;
    let tables = icefield_testkit::untrusted::KINDS;
    ingest.into_iter().chain([("drop", drops::archive as Reader)]).chain(tables).collect()
}

struct Arguments {
    names: Vec<String>,
    seed: u64,
    time: Duration,
    /// One input alone.
    input: Option<u64>,
    /// Set in the process that reads.
    is_reader: bool,
}

fn arguments() -> Result<Arguments, String> {
    let mut read = Arguments {
        names: Vec::new(),
        seed: 1,
        time: Duration::from_secs(60),
        input: None,
        is_reader: false,
    };
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        let mut number = || {
            let text = given.next().ok_or_else(|| format!("{argument} needs a number"))?;
            text.parse::<f64>().ok().filter(|n| *n >= 0.0).ok_or_else(|| format!("{text} is no number"))
        };
        match argument.as_str() {
            "--seed" => read.seed = number()? as u64,
            "--minutes" => read.time = Duration::from_secs_f64(number()?.min(1e6) * 60.0),
            "--input" => read.input = Some(number()? as u64),
            "--reader" => read.is_reader = true,
            "all" => read.names.extend(soaks().iter().map(|(name, _)| name.to_string())),
            name if soaks().iter().any(|(known, _)| *known == name) => read.names.push(name.to_string()),
            other => return Err(format!("{other} is nothing to soak; `soak names` lists what is")),
        }
    }
    if read.names.is_empty() { Err("nothing to soak is named".to_string()) } else { Ok(read) }
}

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|first| first == "names") {
        soaks().iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    }
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(why) => {
            eprintln!("{why}\nusage: soak NAME|all [--seed S] [--minutes M] [--input I]");
            return ExitCode::from(2);
        }
    };
    if arguments.is_reader {
        read_inputs(&arguments);
        return ExitCode::SUCCESS;
    }
    let mut status = ExitCode::SUCCESS;
    for name in &arguments.names {
        if !soak(name, &arguments) {
            status = ExitCode::FAILURE;
        }
    }
    status
}

/// Reads inputs, each announced by its number: the process that started this one sees where it ends.
fn read_inputs(arguments: &Arguments) {
    let Some(name) = arguments.names.first() else { return };
    let Some((_, reader)) = soaks().into_iter().find(|(known, _)| known == name) else { return };
    let corpus = Corpus::of(name);
    let (started, mut out) = (Instant::now(), std::io::stdout().lock());
    let only = arguments.input;
    for number in only.unwrap_or(0).. {
        let bytes = input(&corpus, arguments.seed, number);
        if out.write_all(&number.to_le_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
        reader(&bytes);
        // The files themselves come first, however long they take.
        let is_over = number >= corpus.len() && started.elapsed() >= arguments.time;
        if only.is_some() || is_over {
            return;
        }
    }
}

/// Runs one soak in a process of its own, and says how it went.
fn soak(name: &str, arguments: &Arguments) -> bool {
    let seed = arguments.seed;
    let started = Instant::now();
    let exe = std::env::current_exe().expect("the path of this program");
    let script = format!("ulimit -v {MEMORY_KIB} && exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script).arg(exe).args([name, "--reader", "--seed", &seed.to_string()]);
    command.args(["--minutes", &(arguments.time.as_secs_f64() / 60.0).to_string()]);
    if let Some(input) = arguments.input {
        command.args(["--input", &input.to_string()]);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a process that reads");
    let mut numbers = child.stdout.take().expect("a pipe");
    // The number of the input that is being read, and one more.
    let begun = Arc::new(AtomicU64::new(0));
    let seen = begun.clone();
    let follower = std::thread::spawn(move || {
        let mut number = [0; 8];
        while numbers.read_exact(&mut number).is_ok() {
            seen.store(u64::from_le_bytes(number).saturating_add(1), Ordering::Release);
        }
    });
    let (mut last, mut since, mut worked_since, mut peak) = (0, Instant::now(), Duration::ZERO, 0);
    let failure = loop {
        std::thread::sleep(Duration::from_millis(50));
        match child.try_wait() {
            Ok(Some(status)) if status.success() => break None,
            Ok(Some(status)) => break Some(format!("the reader ended: {status}")),
            Ok(None) => {}
            Err(error) => break Some(format!("the reader can't be waited for: {error}")),
        }
        peak = peak.max(peak_kib(child.id()).unwrap_or(0));
        let at = begun.load(Ordering::Acquire);
        let worked = worked(child.id()).unwrap_or_default();
        if at != last {
            (last, since, worked_since) = (at, Instant::now(), worked);
        } else if worked.saturating_sub(worked_since) > HANG || since.elapsed() > STILL {
            let _ = child.kill();
            let _ = child.wait();
            break Some(format!(
                "no end of input {} after {} s",
                at.saturating_sub(1),
                since.elapsed().as_secs()
            ));
        }
    };
    let _ = follower.join();
    let (inputs, seconds) = (begun.load(Ordering::Acquire), started.elapsed().as_secs());
    let inputs_read = if arguments.input.is_some() { 1 } else { inputs };
    let peak = peak >> 10;
    let Some(failure) = failure else {
        println!("soak {name}: seed {seed}, {inputs_read} inputs, {seconds} s, peak {peak} MiB: passed");
        return true;
    };
    println!(
        "soak {name}: seed {seed}, {inputs_read} inputs, {seconds} s, peak {peak} MiB: FAILED: {failure}"
    );
    if let Some(number) = inputs.checked_sub(1) {
        let bytes = input(&Corpus::of(name), seed, number);
        let at = std::env::temp_dir().join(format!("soak-{name}-{seed}-{number}"));
        println!("again: soak {name} --seed {seed} --input {number}");
        match std::fs::write(&at, &bytes) {
            Ok(()) => println!("its input, {} bytes: {}", bytes.len(), at.display()),
            Err(error) => println!("its input could not be written to {}: {error}", at.display()),
        }
    }
    false
}

/// A process's peak of resident memory, where the system tells it.
fn peak_kib(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The processor's time that a process took, where the system tells it.
fn worked(process: u32) -> Option<Duration> {
    const TICKS_A_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // Behind the name, which may hold anything: the state, ten numbers, then the time as a user and as the system.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().ok()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_A_SECOND))
}

/// The folder of files that a soak starts from.
fn corpus_folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(name)
}
