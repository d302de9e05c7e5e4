use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn spec(json: serde_json::Value) -> PodSpec {
    serde_json::from_value(json).unwrap()
}

fn ended(code: i32, from: i64, to: i64) -> State {
    State::Ended(ExitRecord {
        exit_code: code,
        reason: "Error".to_owned(),
        message: None,
        started_at: Some(at(from)),
        finished_at: at(to),
    })
}

fn facts<'a>(spec: &'a PodSpec, now: i64, seen: &[(&str, State)]) -> Facts<'a> {
    let one =
        |state: &State| Seen { state: state.clone(), backoff_step: 0, held_until: None, asked_at: None };
    Facts {
        spec,
        now: at(now),
        sandbox_ready: true,
        seen: seen.iter().map(|(name, state)| ((*name).to_owned(), one(state))).collect(),
        longest_wait: LONGEST_WAIT,
    }
}

fn started(decision: &Decision) -> Vec<&str> {
    let name = |action: &'_ Action| match action {
        Action::Start { .. } => true,
        Action::MakeSandbox | Action::Ask { .. } | Action::Kill { .. } => false,
    };
    decision
        .actions
        .iter()
        .filter(|action| name(action))
        .map(|action| match action {
            Action::Start { name, .. } | Action::Ask { name } | Action::Kill { name } => name.as_str(),
            Action::MakeSandbox => "",
        })
        .collect()
}

const RUNS: State = State::Active { started: true };

fn full() -> PodSpec {
    spec(serde_json::json!({
        "initContainers": [{ "name": "i1" }, { "name": "side", "restartPolicy": "Always" }, { "name": "i2" }],
        "containers": [{ "name": "a" }, { "name": "b" }],
    }))
}

#[test]
fn the_sandbox_comes_first() {
    let spec = full();
    let facts = Facts { sandbox_ready: false, ..facts(&spec, 0, &[]) };
    assert_eq!(facts.decide().actions, [Action::MakeSandbox]);
}

#[test]
fn init_containers_run_one_after_the_other_and_sidecars_only_have_to_start() {
    let spec = full();
    let done = || ended(0, 0, 1);
    let next = |seen: &[(&str, State)]| started(&facts(&spec, 5, seen).decide()).join(" ");
    assert_eq!(next(&[]), "i1");
    assert_eq!(next(&[("i1", RUNS)]), "");
    assert_eq!(next(&[("i1", done())]), "side");
    assert_eq!(next(&[("i1", done()), ("side", State::Active { started: false })]), "");
    assert_eq!(next(&[("i1", done()), ("side", RUNS)]), "i2");
    assert_eq!(next(&[("i1", done()), ("side", RUNS), ("i2", done())]), "a b");
    // Once apps have run, plain init containers are history, and sidecars come back.
    assert_eq!(next(&[("a", RUNS), ("b", RUNS), ("side", ended(1, 0, 1))]), "side");
}

#[test]
fn a_failed_init_container_fails_the_pod_or_comes_again() {
    let mut spec = full();
    let seen = [("i1", ended(3, 0, 1))];
    assert_eq!(started(&facts(&spec, 5, &seen).decide()), ["i1"]);
    spec.restart_policy = Some("Never".to_owned());
    let facts = facts(&spec, 5, &seen);
    assert_eq!(facts.decide().finished, Some(Outcome::Failed));
}

#[test]
fn restart_policies() {
    let cases = [
        ("Always", 0, true),
        ("Always", 1, true),
        ("OnFailure", 0, false),
        ("OnFailure", 1, true),
        ("Never", 0, false),
        ("Never", 1, false),
    ];
    for (policy, code, again) in cases {
        let spec = spec(serde_json::json!({ "restartPolicy": policy, "containers": [{ "name": "a" }] }));
        let decision = facts(&spec, 5, &[("a", ended(code, 0, 1))]).decide();
        assert_eq!(!started(&decision).is_empty(), again, "{policy} after {code}");
        let outcome = if code == 0 { Outcome::Succeeded } else { Outcome::Failed };
        assert_eq!(decision.finished, (!again).then_some(outcome), "{policy} after {code}");
    }
}

#[test]
fn a_pod_is_done_when_its_apps_are_though_a_sidecar_runs() {
    let mut spec = full();
    spec.restart_policy = Some("Never".to_owned());
    let seen = [("side", RUNS), ("a", ended(0, 0, 1)), ("b", ended(0, 0, 1))];
    assert_eq!(facts(&spec, 5, &seen).decide().finished, Some(Outcome::Succeeded));
    let seen = [("side", RUNS), ("a", ended(0, 0, 1)), ("b", RUNS)];
    assert_eq!(facts(&spec, 5, &seen).decide().finished, None);
}

#[test]
fn waits_double_up_to_the_longest_and_start_anew_after_a_long_run() {
    let seconds = |step| backoff(step, LONGEST_WAIT).as_secs();
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7, 40].map(seconds), [0, 10, 20, 40, 80, 160, 300, 300, 300]);
    assert_eq!(backoff(1, Duration::from_secs(1)), Duration::from_secs(1));
    let spec = spec(serde_json::json!({ "containers": [{ "name": "a" }] }));
    let with_step = |ended: State| {
        let mut facts = facts(&spec, 1_000, &[("a", ended)]);
        facts.seen.get_mut("a").unwrap().backoff_step = 3;
        facts.decide()
    };
    let waiting = with_step(ended(1, 990, 991));
    assert_eq!((waiting.wake_at, waiting.actions.len()), (Some(at(991 + 40)), 0));
    assert_eq!(waiting.backing_off["a"], Duration::from_secs(40));
    let again = with_step(ended(1, 100, 999));
    assert_eq!(again.actions, [Action::Start { name: "a".to_owned(), backoff_step: 1 }]);
}

#[test]
fn the_end_comes_to_apps_first_then_to_sidecars_last_one_first() {
    let spec = spec(serde_json::json!({
        "initContainers": [{ "name": "s1", "restartPolicy": "Always" }, { "name": "s2", "restartPolicy": "Always" }],
        "containers": [{ "name": "a" }, { "name": "b" }],
    }));
    let asked = |facts: &Facts<'_>| -> Vec<String> {
        let decision = facts.decide_end(at(30));
        let name = |action| match action {
            Action::Ask { name } => name,
            Action::Kill { name } => format!("!{name}"),
            other => panic!("{other:?}"),
        };
        decision.actions.into_iter().map(name).collect()
    };
    let all = [("s1", RUNS), ("s2", RUNS), ("a", RUNS), ("b", RUNS)];
    assert_eq!(asked(&facts(&spec, 0, &all)), ["b", "a"]);
    let gone = || ended(0, 0, 1);
    let only = [("s1", RUNS), ("s2", RUNS), ("a", gone()), ("b", gone())];
    assert_eq!(asked(&facts(&spec, 0, &only)), ["s2"]);
    assert_eq!(asked(&facts(&spec, 0, &[("s1", RUNS), ("s2", gone())])), ["s1"]);
    // Time is up: everybody is asked, and killed two seconds later at the earliest.
    let mut late = facts(&spec, 30, &all);
    late.seen.get_mut("a").unwrap().asked_at = Some(at(0));
    late.seen.get_mut("b").unwrap().asked_at = Some(at(29));
    assert_eq!(asked(&late), ["!a", "s2", "s1"]);
    assert_eq!(late.decide_end(at(30)).wake_at, Some(at(31)));
}

#[test]
fn ephemeral_containers_start_once_and_hold_nobody_up() {
    let mut spec = full();
    spec.ephemeral_containers = serde_json::from_value(serde_json::json!([{ "name": "e" }])).unwrap();
    // Beside an init container that has not ended yet.
    assert_eq!(started(&facts(&spec, 0, &[("i1", RUNS)]).decide()), ["e"]);
    let all = [("side", RUNS), ("a", RUNS), ("b", RUNS)];
    let over = |code| [&all[..], &[("e", ended(code, 0, 1))]].concat();
    assert_eq!(facts(&spec, 1000, &over(1)).decide(), Decision::default());
    // The pod is over though it runs, and at its end the sidecar does not wait for it.
    spec.restart_policy = Some("Never".to_owned());
    let done = [("side", RUNS), ("a", ended(0, 0, 1)), ("b", ended(0, 0, 1)), ("e", RUNS)];
    assert_eq!(facts(&spec, 2, &done).decide().finished, Some(Outcome::Succeeded));
    let asked = facts(&spec, 2, &done).decide_end(at(30)).actions;
    assert_eq!(asked, ["e", "side"].map(|name| Action::Ask { name: name.to_owned() }));
}
