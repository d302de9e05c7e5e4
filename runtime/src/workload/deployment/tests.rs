use std::collections::BTreeMap;

use super::{
    super::{fixture::*, replicas},
    *,
};

fn deployment(strategy: &str, replicas: i32, image: &str) -> Workload {
    let template = TEMPLATE.replace("image: i", &format!("image: {image}"));
    workload(
        "Deployment",
        "web",
        &format!("{{replicas: {replicas}, {SELECTOR}, strategy: {strategy}, {template}}}"),
    )
}

/// The workloads and pods of a cluster in which everything that is decided happens, and pods become ready one after
/// the other.
struct World {
    deployment: Workload,
    sets: Vec<Workload>,
    pods: Vec<Pod>,
    made: usize,
    /// The fewest that were available and the most there were, of all moments so far.
    fewest: i32,
    most: usize,
}

impl World {
    fn new(deployment: Workload) -> Self {
        Self { deployment, sets: vec![], pods: vec![], made: 0, fewest: i32::MAX, most: 0 }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Create(pod) => {
                    self.made += 1;
                    let mut pod = *pod;
                    let fresh = pending(orphan(&format!("pod-{}", self.made)));
                    pod.metadata.uid = fresh.metadata.uid;
                    pod.metadata.name = fresh.metadata.name;
                    pod.status = fresh.status;
                    self.pods.push(pod);
                }
                Action::Delete(uid) => self.pods.retain(|pod| pod.metadata.uid.as_ref() != Some(&uid)),
                Action::Keep(mut set) => {
                    set.metadata
                        .uid
                        .get_or_insert_with(|| format!("uid-{}", set.metadata.name.as_deref().unwrap()));
                    self.sets.retain(|old| old.uid() != set.uid());
                    self.sets.push(*set);
                }
                Action::Drop(uid) => self.sets.retain(|set| set.uid() != uid),
                Action::Adopt(_) => panic!("nothing is an orphan here"),
            }
            self.look();
        }
    }

    fn look(&mut self) {
        self.fewest = self.fewest.min(count(&self.pods, is_ready));
        self.most = self.most.max(self.pods.len());
    }

    /// Decides and acts until nothing changes but that pods become ready.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let actions = {
                let facts = Facts { pods: &self.pods, workloads: &self.sets, ..facts(&self.deployment) };
                let Spec::Deployment(spec) = &self.deployment.spec else { panic!("a deployment") };
                decide(&facts, spec).actions
            };
            let idle = actions.is_empty();
            self.act(actions);
            for set in self.sets.clone() {
                let actions = replicas::decide(&Facts { pods: &self.pods, ..facts(&set) }).actions;
                self.act(actions);
            }
            let next = self.pods.iter_mut().find(|pod| !is_ready(pod));
            match next {
                Some(pod) => pod.status = orphan("x").status,
                None if idle => return,
                None => {}
            }
        }
        panic!("it never settles: {:#?}", self.sets);
    }

    /// How many pods there are of each image.
    fn images(&self) -> BTreeMap<String, usize> {
        let mut images = BTreeMap::new();
        for pod in &self.pods {
            let image = pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
            *images.entry(image).or_default() += 1;
        }
        images
    }

    fn roll_out(&mut self, deployment: Workload) {
        self.deployment = deployment;
        (self.fewest, self.most) = (i32::MAX, 0);
        self.look();
        self.settle();
    }
}

#[test]
fn a_version_is_a_replica_set_with_a_hash() {
    let deployment = deployment("{}", 3, "a");
    let Spec::Deployment(spec) = &deployment.spec else { panic!("a deployment") };
    let found = decide(&facts(&deployment), spec);
    let set = kept(&found)[0];
    let hash = template::hash(&spec.template);
    assert_eq!((set.name(), set.replicas()), (format!("web-{hash}").as_str(), Some(3)));
    let labels = set.template().unwrap().metadata.clone().unwrap().labels.unwrap();
    assert_eq!(labels[HASH_LABEL], hash);
    assert!(is_selected(&set.selector().unwrap(), &labels));
    assert_eq!(set.metadata.owner_references.as_ref().unwrap()[0].uid, "uid-web");
    assert_eq!(found.status["unavailableReplicas"], 3);
}

#[test]
fn rolling_keeps_between_its_bounds_whatever_they_are() {
    let amounts =
        [("25%", "25%"), ("1", "0"), ("0", "1"), ("100%", "0"), ("0", "100%"), ("0%", "0%"), ("50%", "1")];
    for replicas in [1, 2, 3, 4, 10] {
        for (surge, unavailable) in amounts {
            let strategy = format!("{{rollingUpdate: {{maxSurge: {surge}, maxUnavailable: {unavailable}}}}}");
            let mut world = World::new(deployment(&strategy, replicas, "a"));
            world.settle();
            let wanted = usize::try_from(replicas).unwrap();
            assert_eq!(world.images(), [("a".to_owned(), wanted)].into());
            let next = deployment(&strategy, replicas, "b");
            let Spec::Deployment(spec) = &next.spec else { panic!("a deployment") };
            let bounds = bounds(spec);
            world.roll_out(next.clone());
            assert_eq!(world.images(), [("b".to_owned(), wanted)].into());
            let seen = format!("{strategy} of {replicas}: {} to {}", world.fewest, world.most);
            assert!(world.fewest >= bounds.least_available, "{seen}");
            assert!(i32::try_from(world.most).unwrap() <= bounds.most, "{seen}");
            assert_eq!(world.sets.len(), 1, "the old version is not kept");
        }
    }
}

#[test]
fn bounds_are_resolved_as_kubernetes_does() {
    for (replicas, surge, unavailable, expected) in [
        (4, "25%", "25%", (5, 3)),
        (1, "25%", "25%", (2, 1)),
        (10, "25%", "25%", (13, 8)),
        (3, "0%", "10%", (3, 2)),
        (2, "1", "5", (3, 0)),
    ] {
        let strategy = format!("{{rollingUpdate: {{maxSurge: {surge}, maxUnavailable: {unavailable}}}}}");
        let Spec::Deployment(spec) = deployment(&strategy, replicas, "a").spec else {
            panic!("a deployment")
        };
        let found = bounds(&spec);
        assert_eq!((found.most, found.least_available), expected, "{strategy} of {replicas}");
    }
}

#[test]
fn recreating_makes_nothing_before_everything_is_gone() {
    let mut world = World::new(deployment("{type: Recreate}", 3, "a"));
    world.settle();
    world.deployment = deployment("{type: Recreate}", 3, "b");
    let old: Vec<Pod> = world.pods.iter().cloned().map(leaving).collect();
    let Spec::Deployment(spec) = &world.deployment.spec else { panic!("a deployment") };
    // The new version is there, but empty while old pods go.
    let first = decide(&Facts { pods: &old, workloads: &world.sets, ..facts(&world.deployment) }, spec);
    assert_eq!(kept(&first)[0].replicas(), Some(0));
    world.roll_out(world.deployment.clone());
    assert_eq!((world.fewest, world.most), (0, 3));
    assert_eq!(world.images(), [("b".to_owned(), 3)].into());
}

#[test]
fn a_version_that_never_gets_ready_takes_nothing_away() {
    let mut world = World::new(deployment("{}", 4, "a"));
    world.settle();
    world.deployment = deployment("{}", 4, "b");
    for _ in 0..50 {
        let facts = Facts { pods: &world.pods, workloads: &world.sets, ..facts(&world.deployment) };
        let Spec::Deployment(spec) = &world.deployment.spec else { panic!("a deployment") };
        let actions = decide(&facts, spec).actions;
        world.act(actions);
        for set in world.sets.clone() {
            let actions =
                replicas::decide(&Facts { pods: &world.pods, ..super::super::fixture::facts(&set) }).actions;
            world.act(actions);
        }
    }
    assert_eq!(count(&world.pods, is_ready), 3);
    assert_eq!(world.pods.len(), 5);
    // Back to what was: the useless ones go.
    world.roll_out(deployment("{}", 4, "a"));
    assert_eq!(world.images(), [("a".to_owned(), 4)].into());
}

#[test]
fn scaling_keeps_the_version() {
    let mut world = World::new(deployment("{}", 2, "a"));
    world.settle();
    let name = world.sets[0].name().to_owned();
    for replicas in [6, 1, 0, 3] {
        world.roll_out(deployment("{}", replicas, "a"));
        assert_eq!((world.pods.len(), world.sets.len()), (usize::try_from(replicas).unwrap(), 1));
        assert_eq!(world.sets[0].name(), name);
    }
}

#[test]
fn a_replica_set_that_nobody_owns_is_adopted() {
    let deployment = deployment("{}", 1, "a");
    let Spec::Deployment(spec) = &deployment.spec else { panic!("a deployment") };
    let mut set = version(&deployment, spec, &template::hash(&spec.template), 1);
    set.metadata.owner_references = None;
    let sets = [set];
    let found = decide(&Facts { workloads: &sets, ..facts(&deployment) }, spec);
    assert_eq!(kept(&found).len(), 1);
    assert!(is_owned_by(&kept(&found)[0].metadata, &deployment));
}
