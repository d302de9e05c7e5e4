//! The examples: applied as they are, and what their comments promise is shown by the commands that they tell.

use std::time::Duration;

use anyhow::Result;
use netns_fixtures::wait_until;
use serde_json::Value;

use super::{
    CLIENTS, SERVERS,
    report::{Row, Section},
    stage::{Attempt, Stage},
};

/// For whatever is a matter of a second.
const SOON: Duration = Duration::from_secs(15);
/// For what is so already.
const ONCE: Duration = Duration::ZERO;
/// The exit code of a program whose port is taken.
const EADDRINUSE: &str = "98";

/// What an example shows.
type Shows = fn(&Stage) -> Result<Vec<Row>>;

/// A file in `examples/`.
struct Example {
    file: &'static str,
    manifest: &'static str,
    claim: &'static str,
    shows: Shows,
}

/// An [`Example`] from the file of that name.
macro_rules! example {
    ($name:literal, $claim:literal, $shows:expr) => {
        Example {
            file: concat!("examples/", $name, ".yaml"),
            manifest: include_str!(concat!("../../../examples/", $name, ".yaml")),
            claim: $claim,
            shows: $shows,
        }
    };
}

/// The one whose pods are on every node.
const EVERYWHERE: Example =
    example!("three-nodes", "Every client is seen by every server with its own address", asked);

/// Those that play in one pod or two.
const SMALL: [Example; 5] = [
    example!("web-and-content", "Containers share a volume: a sidecar writes the page that is served", page),
    example!("log-tailer", "A sidecar makes a container's log of a file", tail),
    example!(
        "localhost-proxy",
        "Containers share localhost: other pods reach it only through the pod's proxy",
        proxy
    ),
    example!(
        "port-conflict",
        "Ports are the pod's: taken twice in one pod they fail, in two pods both serve",
        port
    ),
    example!("init-chain", "Init containers run in order, each with what the one before has left", chain),
];

/// Applies the one that is on every node, and waits until it is ready.
pub(super) fn spread(stage: &Stage) -> Result<()> {
    stage.apply(EVERYWHERE.file, EVERYWHERE.manifest)?;
    for workload in ["deployment/server", "daemonset/client"] {
        stage.flatpod(&["rollout", "status", workload, "--timeout", "30"])?;
    }
    Ok(())
}

/// What that one shows.
pub(super) fn spread_out(stage: &Stage) -> Result<Section> {
    Ok(Section::new(EVERYWHERE.claim, "command", asked(stage)?))
}

/// Applies the small ones, and shows what each shows.
pub(super) fn small(stage: &Stage) -> Result<Vec<Section>> {
    SMALL.iter().try_for_each(|example| stage.apply(example.file, example.manifest))?;
    stage.flatpod(&[
        "wait",
        "--for=condition=Ready",
        "web-and-content",
        "log-tailer",
        "localhost-proxy",
        "asker",
    ])?;
    let section = |example: &Example| {
        let rows = (example.shows)(stage);
        rows.map_or_else(
            |error| Section::broken(example.claim, &error),
            |rows| Section::new(example.claim, "command", rows),
        )
    };
    let mut sections: Vec<Section> = SMALL.iter().map(section).collect();
    sections.push(Section::new(
        "A debug container sees what the container sees, with an image of its own",
        "command",
        vec![debug(stage)],
    ));
    Ok(sections)
}

fn asked(stage: &Stage) -> Result<Vec<Row>> {
    let text = |pod: &Value, at: &str| pod.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let servers = stage.pods(SERVERS)?;
    let mut rows = vec![];
    for client in stage.pods(CLIENTS)? {
        let [name, own] = ["/metadata/name", "/status/podIP"].map(|at| text(&client, at));
        for server in &servers {
            let url = format!("http://{}:8080/clientip", text(server, "/status/podIP"));
            let as_itself = says(|told| told.starts_with(&format!("{own}:")));
            rows.push(look(stage, &["exec", &name, "--", "get", &url], ONCE, as_itself));
        }
    }
    Ok(rows)
}

fn page(stage: &Stage) -> Result<Vec<Row>> {
    let line = words("exec web-and-content -c server -- get http://127.0.0.1/");
    let first = stage.quietly(&line)?;
    let is_page = |told: &str| told.trim().parse::<f64>().is_ok();
    let shown = Row::new(line.join(" "), first.trim(), is_page(&first));
    Ok(vec![shown, look(stage, &line, SOON, says(|told| is_page(told) && told != first))])
}

fn tail(stage: &Stage) -> Result<Vec<Row>> {
    let lines = says(|told| told.starts_with("line 1\n"));
    Ok(vec![
        look(stage, &words("logs log-tailer -c tailer"), SOON, lines),
        look(stage, &words("logs log-tailer -c app"), ONCE, says(str::is_empty)),
    ])
}

fn proxy(stage: &Stage) -> Result<Vec<Row>> {
    let ip = stage.quietly(&words("get pod localhost-proxy -o jsonpath={.status.podIP}"))?;
    let through = format!("exec asker -- get http://{ip}/clientip");
    let past = format!("exec asker -- get http://{ip}:8080/clientip");
    let refused = |attempt: &Attempt| !attempt.succeeded && attempt.complained.contains("Connection refused");
    Ok(vec![
        look(stage, &words(&through), ONCE, says(|told| told.starts_with("127.0.0.1:"))),
        look(stage, &words(&past), ONCE, refused),
    ])
}

fn port(stage: &Stage) -> Result<Vec<Row>> {
    let code = "get pod port-conflict -o jsonpath={.status.containerStatuses[?(@.name=='second')]..exitCode}";
    let taken = says(|told| told.starts_with("bind 80: Address already in use"));
    Ok(vec![
        look(stage, &words("logs port-conflict -c second"), SOON, taken),
        look(stage, &words(code), SOON, says(|told| told.split_whitespace().any(|code| code == EADDRINUSE))),
        look(stage, &words("logs port-neighbour"), SOON, says(|told| told == "listening on 80\n")),
    ])
}

fn chain(stage: &Stage) -> Result<Vec<Row>> {
    let in_order = says(|told| told == "seed\nsprout\nflower\n");
    Ok(vec![look(stage, &words("logs init-chain"), SOON, in_order)])
}

fn debug(stage: &Stage) -> Row {
    let mut line = words("debug port-neighbour --attach --image builtin/host:v1 --target only -- sh -c");
    line.push("tr '\\0' ' ' < /proc/1/cmdline");
    look(stage, &line, ONCE, says(|told| told.contains("bind 80")))
}

fn words(line: &str) -> Vec<&str> {
    line.split(' ').collect()
}

/// Succeeds, and says what it must.
fn says(must: impl Fn(&str) -> bool) -> impl Fn(&Attempt) -> bool {
    move |attempt| attempt.succeeded && must(&attempt.told)
}

/// Gives a command, again and again `within` this time, until it is as it must be.
fn look(stage: &Stage, line: &[&str], within: Duration, must: impl Fn(&Attempt) -> bool) -> Row {
    let mut last = String::new();
    let seen = wait_until("it", within, || {
        let attempt = stage.attempt(line);
        last = attempt.as_ref().map_or_else(|error| format!("{error:#}"), Attempt::shown);
        attempt.is_ok_and(|attempt| must(&attempt)).then_some(())
    });
    Row::new(line.join(" "), last, seen.is_ok())
}
