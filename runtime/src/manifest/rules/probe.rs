//! Probes and hooks.

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, Lifecycle, LifecycleHandler, Probe};

use super::{each, names, pod::Context, ports};
use crate::{
    manifest::{path::Path, problem::Report},
    status::Role,
};

const NOT_FOR_INIT: &str = "may not be set for init containers without restartPolicy=Always";
const NO_HANDLER: &str = "must specify a handler type";
const MORE_HANDLERS: &str = "may not specify more than 1 handler type";

/// Checks what watches over a container and what is told of its start and end.
pub(super) fn check(
    container: &Container,
    role: Role,
    context: &Context<'_>,
    path: &Path,
    report: &mut Report,
) {
    let probes = [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ];
    for (name, probe) in probes {
        let (at, Some(probe)) = (path.field(name), probe) else { continue };
        if role == Role::Init {
            report.forbidden(&at, NOT_FOR_INIT);
        } else {
            self::probe(probe, name, container, &at, report);
        }
    }
    let (at, Some(lifecycle)) = (path.field("lifecycle"), &container.lifecycle) else { return };
    if role == Role::Init {
        report.forbidden(&at, NOT_FOR_INIT);
    } else {
        self::lifecycle(lifecycle, container, context, &at, report);
    }
}

fn probe(probe: &Probe, name: &str, container: &Container, path: &Path, report: &mut Report) {
    match [probe.exec.is_some(), probe.http_get.is_some(), probe.tcp_socket.is_some()]
        .iter()
        .filter(|is| **is)
        .count()
    {
        // A handler that is not supported has been reported already.
        0 if report.has_below(path) => {}
        0 => report.required(path, NO_HANDLER),
        1 => {}
        _ => report.forbidden(path, MORE_HANDLERS),
    }
    if let Some(exec) = &probe.exec
        && each(&exec.command).is_empty()
    {
        report.required(&path.field("exec").field("command"), "");
    }
    if let Some(action) = &probe.http_get {
        http_get(action, container, &path.field("httpGet"), report);
    }
    if let Some(action) = &probe.tcp_socket {
        ports::reference(&action.port, container, &path.field("tcpSocket").field("port"), report);
    }
    bounds(probe, name, path, report);
}

fn bounds(probe: &Probe, name: &str, path: &Path, report: &mut Report) {
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, number) in numbers {
        if let Some(number) = number.filter(|number| *number < 0) {
            report.invalid(&path.field(field), number, "must be greater than or equal to 0");
        }
    }
    if name != "readinessProbe"
        && let Some(number) = probe.success_threshold.filter(|number| *number > 1)
    {
        report.invalid(&path.field("successThreshold"), number, "must be 1");
    }
    let (at, Some(seconds)) =
        (path.field("terminationGracePeriodSeconds"), probe.termination_grace_period_seconds)
    else {
        return;
    };
    if name == "readinessProbe" {
        report.invalid(&at, seconds, "must not be set for readinessProbes");
    } else if seconds <= 0 {
        report.invalid(&at, seconds, "must be greater than 0");
    }
}

fn http_get(action: &HTTPGetAction, container: &Container, path: &Path, report: &mut Report) {
    ports::reference(&action.port, container, &path.field("port"), report);
    for (index, header) in each(&action.http_headers).iter().enumerate() {
        if !header.name.is_empty()
            && let Err(why) = names::header(&header.name)
        {
            report.invalid(&path.field("httpHeaders").index(index).field("name"), &header.name, why);
        }
    }
}

fn lifecycle(
    lifecycle: &Lifecycle,
    container: &Container,
    context: &Context<'_>,
    path: &Path,
    report: &mut Report,
) {
    let grace = context.spec.termination_grace_period_seconds.unwrap_or(0);
    for (name, handler) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
        if let Some(handler) = handler {
            hook(handler, container, grace, &path.field(name), report);
        }
    }
    let Some(signal) = &lifecycle.stop_signal else { return };
    let at = path.field("stopSignal");
    if context.spec.os.is_none() {
        report.forbidden(&at, "may not be set when `spec.os.name` is not set");
    }
    if !is_signal(signal) {
        report.invalid(&at, signal, "must be the name of a signal of Linux, such as SIGTERM or SIGRTMIN+3");
    }
}

fn hook(handler: &LifecycleHandler, container: &Container, grace: i64, path: &Path, report: &mut Report) {
    match [handler.exec.is_some(), handler.http_get.is_some(), handler.sleep.is_some()]
        .iter()
        .filter(|is| **is)
        .count()
    {
        0 if report.has_below(path) => {}
        0 => report.required(path, NO_HANDLER),
        1 => {}
        _ => report.forbidden(path, MORE_HANDLERS),
    }
    if let Some(exec) = &handler.exec
        && each(&exec.command).is_empty()
    {
        report.required(&path.field("exec").field("command"), "");
    }
    if let Some(action) = &handler.http_get {
        http_get(action, container, &path.field("httpGet"), report);
    }
    if let Some(sleep) = &handler.sleep
        && !(0..=grace).contains(&sleep.seconds)
    {
        let why = format!("must be non-negative and at most terminationGracePeriodSeconds ({grace})");
        report.invalid(&path.field("sleep"), sleep.seconds, &why);
    }
}

/// The signals of `supportedStopSignalsLinux` in validation.go.
fn is_signal(name: &str) -> bool {
    const NAMES: [&str; 34] = [
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
        "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
        "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
    ];
    let Some(name) = name.strip_prefix("SIG") else { return false };
    let offset = |text: &str, most: u8| text.parse::<u8>().is_ok_and(|n| (1..=most).contains(&n));
    NAMES.contains(&name)
        || matches!(name, "RTMIN" | "RTMAX")
        || name.strip_prefix("RTMIN+").is_some_and(|n| offset(n, 15))
        || name.strip_prefix("RTMAX-").is_some_and(|n| offset(n, 14))
}
