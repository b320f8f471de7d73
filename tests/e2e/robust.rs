//! What a local user, a full disk behind standard error, or a token sent again and again does to the controller: nothing.

use std::{
    fs,
    net::{TcpStream, UdpSocket},
    os::unix::{fs::PermissionsExt, net::UnixStream, process::CommandExt},
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use anyhow::{Context, Result, ensure};
use jpat_tests::{
    binaries, forge,
    network::{Family, Member},
    probe::Port,
    process::Process,
    wait::{self, PATIENCE},
};
use libtest_mimic::Trial;
use nix::{
    sched::{CpuSet, sched_getaffinity},
    sys::signal::Signal,
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    config::{self, Config, HTTPS, KNOCK_PORT, METRICS},
    stage::{self, Stage},
    trial,
};

/// More connections than descriptors.
const IDLE: usize = 600;
/// Enough for what the servers hold at most.
const ENOUGH: u32 = 256;
/// Fewer than that.
const FEW: u32 = 56;

/// Who owns nothing.
const NOBODY: u32 = 65_534;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial::on("p4_idle_local_connections_keep_nobody_out", Config::default, idle_connections),
        trial::on("p4_descriptors_that_ran_out_stop_no_server", Config::default, few_descriptors),
        trial::on("p4_a_full_standard_error_stops_nothing", Config::default, full_standard_error),
        trial::on("p5_a_refused_token_sent_again_costs_a_line_a_second", Config::default, refused_again),
        trial::on("p5_on_one_cpu_a_flood_of_forged_tokens_keeps_nobody_waiting", unlimited, one_cpu),
    ]
}

fn unlimited() -> Config {
    let rest = "[limits]\nbare_per_second = 1000000\n".to_owned();
    Config { rest, services: vec![config::web("30s")], ..Config::default() }
}

fn idle_connections(stage: &mut Stage) -> Result<()> {
    let jpatd = start_with(stage, ENOUGH)?;
    let asking = connect(stage, IDLE)?;
    stage.admin_ok(&["status"]).context("idle connections to the admin socket")?;
    refused_to_nobody(stage)?;
    let scraping = stage.net.host.run(|| {
        let connections = (0..IDLE).map(|_| TcpStream::connect_timeout(&METRICS, PATIENCE));
        Ok(connections.collect::<std::io::Result<Vec<_>>>()?)
    })?;
    ensure!(stage.http_status("/livez")? == 200, "idle connections to `admin.metrics`");
    stage.admin_ok(&["status"]).context("idle connections to both")?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    ensure!((asking.len(), scraping.len()) == (IDLE, IDLE), "not all connections were there");
    let said = jpatd.output().text();
    ensure!(!said.contains("no connection can be accepted"), "descriptors ran out: {said}");
    Ok(())
}

fn few_descriptors(stage: &mut Stage) -> Result<()> {
    let mut jpatd = start_with(stage, FEW)?;
    let asking = connect(stage, FEW as usize)?;
    let output = jpatd.output().clone();
    jpatd.wait_until("descriptors to run out", || output.text().contains("no connection can be accepted"))?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted").context("out of descriptors")?;
    stage.admin_ok(&["status"]).context("out of descriptors")?;
    drop(asking);
    stage.admin_ok(&["status"]).context("after that")?;
    ensure!(stage.http_status("/readyz")? == 200);
    Ok(())
}

/// `jpatd` that may open this many files and no more.
fn start_with(stage: &Stage, descriptors: u32) -> Result<Process> {
    let script = format!("ulimit -n {descriptors} && exec \"$0\" \"$@\"");
    let mut jpatd = Process::start(&stage.net.host, "jpatd", by_shell(&script, &stage.jpatd("run")?))?;
    stage.wait_ready(&mut jpatd)?;
    Ok(jpatd)
}

/// Connections to the admin socket that ask nothing.
fn connect(stage: &Stage, count: usize) -> Result<Vec<UnixStream>> {
    let socket = stage.path("admin.sock");
    let connections = (0..count).map(|_| UnixStream::connect(&socket));
    connections.collect::<std::io::Result<_>>().context("connect to the admin socket")
}

/// A user who is on no list hears so; the program is copied to where such a user reaches it.
fn refused_to_nobody(stage: &Stage) -> Result<()> {
    let program = stage.path("jpat");
    fs::copy(binaries::jpat()?, &program)?;
    fs::set_permissions(stage.dir.path(), PermissionsExt::from_mode(0o711))?;
    let mut status = Command::new(program);
    status.arg("status").arg("--socket").arg(stage.path("admin.sock")).uid(NOBODY).gid(NOBODY);
    let ended = Process::run(&stage.net.host, "jpat", status)?;
    let refused = ended.output.contains("user id 65534 is neither in `admin.read` nor in `admin.change`");
    ensure!(ended.status.code() == Some(1) && refused, "{}: {}", ended.status, ended.output);
    Ok(())
}

fn full_standard_error(stage: &mut Stage) -> Result<()> {
    let full = by_shell("exec \"$0\" \"$@\" 2>/dev/full", &stage.jpatd("run")?);
    let mut jpatd = Process::start(&stage.net.host, "jpatd", full)?;
    stage.wait_ready(&mut jpatd)?;
    // A reload that is refused is logged at length.
    fs::write(stage.path("jpat.toml"), "mode = \"neither\"\n")?;
    jpatd.signal(Signal::SIGHUP)?;
    stage.knock(Member::Client, Family::V4, &stage.token()?, "granted")?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    jpatd.signal(Signal::SIGTERM)?;
    let status = jpatd.wait_end()?;
    ensure!(status.success(), "{status}");
    Ok(())
}

fn refused_again(stage: &mut Stage) -> Result<()> {
    // Fewer than the filter lets in at once.
    const SENT: u32 = 150;
    stage.start(&[])?;
    let (began, before) = (wait::now(), stage.metrics()?);
    let token = stage.key.token(&stage.claims_with(json!({ "roles": [], "jti": "again" })))?;
    for sent in 1..=SENT {
        stage.send(Member::Client, Family::V4, token.as_bytes())?;
        if sent % 50 == 0 {
            // Not more at a time than the queue holds.
            let mut last = before.clone();
            wait::for_true("the knocks to be refused", PATIENCE, || {
                last = stage.metrics()?;
                Ok(last.knocks("not_allowed") >= f64::from(sent))
            })
            .with_context(|| {
                let packets = last.changes(&before, "jpat_packets_total");
                format!("{sent} were sent: {} {packets}", last.changes(&before, "jpat_knocks_total"))
            })?;
        }
    }
    let seconds = began.until(wait::now()).as_secs();
    // The next line tells of those that had none.
    let another = stage.key.token(&stage.claims_with(json!({ "roles": [], "jti": "another" })))?;
    stage.knock(Member::Client, Family::V4, &another, "not_allowed")?;
    let log = fs::read_to_string(stage.path("audit.jsonl"))?;
    let denied = log.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let again = denied.iter().filter(|line| line["token_id"] == "again").count();
    let told: u64 = denied.iter().map(|line| 1 + line["suppressed"].as_u64().unwrap_or(0)).sum();
    ensure!(again >= 1 && again as u64 <= seconds + 1, "{again} lines in {seconds} s:\n{log}");
    ensure!(told == u64::from(SENT) + 1, "{told} of {} refusals are told of:\n{log}", SENT + 1);
    Ok(())
}

/// On its one CPU the controller has no thread to verify on.
fn one_cpu(stage: &mut Stage) -> Result<()> {
    const ENOUGH: f64 = 1_000.0;
    let jpatd = start_on_one_cpu(stage)?;
    let threads = threads(jpatd.id())?;
    ensure!(!threads.iter().any(|name| name.starts_with("verify")), "{threads:?}");
    let forged = forge::Key::es256("k1")?.token(&stage.claims())?;
    let (stranger, over) = (stage.net.of(Member::Stranger), AtomicBool::new(false));
    thread::scope(|scope| {
        let flood = scope.spawn(|| stranger.run(|| flood(&forged, &over)));
        let looked = under_flood(stage, ENOUGH);
        over.store(true, Relaxed);
        flood.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        looked
    })
}

/// `jpatd` that has one CPU.
pub(crate) fn start_on_one_cpu(stage: &Stage) -> Result<Process> {
    let ours = sched_getaffinity(Pid::from_raw(0))?;
    let cpu = (0..CpuSet::count()).find(|cpu| ours.is_set(*cpu) == Ok(true)).context("no CPU")?;
    let script = format!("exec taskset --cpu-list {cpu} \"$0\" \"$@\"");
    let mut jpatd = Process::start(&stage.net.host, "jpatd", by_shell(&script, &stage.jpatd("run")?))?;
    stage.wait_ready(&mut jpatd)?;
    Ok(jpatd)
}

fn under_flood(stage: &Stage, enough: f64) -> Result<()> {
    wait::for_true("the flood to be looked at", PATIENCE, || Ok(stage.metrics()?.knocks("bad_signature") >= enough))?;
    let token = stage.token()?;
    wait::for_true("a good knock to open", PATIENCE, || {
        // One that finds the ring full is lost.
        stage.send(Member::Client, Family::V4, token.as_bytes())?;
        Ok(stage.metrics()?.knocks("granted") > 0.0)
    })?;
    stage.expect_tcp(Member::Client, Family::V4, HTTPS, Port::Open)?;
    stage.admin_ok(&["status"])?;
    let seen = stage.metrics()?.knocks("bad_signature");
    wait::for_true("the flood to go on", PATIENCE, || Ok(stage.metrics()?.knocks("bad_signature") >= seen + enough))
}

/// Until it is over, or whoever looks at it has lost patience.
fn flood(datagram: &str, over: &AtomicBool) -> Result<()> {
    let end = wait::now().after(4 * PATIENCE);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(stage::address(Family::V4, KNOCK_PORT))?;
    while !over.load(Relaxed) && wait::now() < end {
        // A full queue of the device is no error here.
        let _sent = socket.send(datagram.as_bytes());
    }
    Ok(())
}

/// Names of a process's threads.
fn threads(process: u32) -> Result<Vec<String>> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"))?;
    tasks.map(|task| Ok(fs::read_to_string(task?.path().join("comm"))?.trim().to_owned())).collect()
}

/// The same command by way of a shell, which sets what a `Command` cannot.
fn by_shell(script: &str, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).arg(command.get_program()).args(command.get_args()).env_remove("JPAT_CONFIG");
    shell
}
