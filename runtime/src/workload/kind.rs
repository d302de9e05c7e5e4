//! The kinds of workloads, and how they are called.

/// A kind of workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Rolls out the versions of a template.
    Deployment,
    /// A number of pods.
    ReplicaSet,
    /// The same, as it was in the beginning.
    ReplicationController,
    /// Pods with names that stay.
    StatefulSet,
    /// A pod on every node.
    DaemonSet,
    /// Pods that end.
    Job,
}

impl Kind {
    /// All of them; owners come before what they own.
    pub const ALL: [Self; 6] = [
        Self::Deployment,
        Self::ReplicaSet,
        Self::ReplicationController,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
    ];

    /// As a manifest spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::ReplicaSet => "ReplicaSet",
            Self::ReplicationController => "ReplicationController",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
        }
    }

    /// The version that it is read in.
    #[must_use]
    pub fn api_version(self) -> &'static str {
        match self {
            Self::Job => "batch/v1",
            Self::ReplicationController => "v1",
            Self::Deployment | Self::ReplicaSet | Self::StatefulSet | Self::DaemonSet => "apps/v1",
        }
    }

    /// As kubectl names it: `deployment.apps`.
    #[must_use]
    pub fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployment.apps",
            Self::ReplicaSet => "replicaset.apps",
            Self::ReplicationController => "replicationcontroller",
            Self::StatefulSet => "statefulset.apps",
            Self::DaemonSet => "daemonset.apps",
            Self::Job => "job.batch",
        }
    }

    /// The kind that any of kubectl's names stands for: `deploy`, `deployments`, `deployment.apps`.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        let word = word.to_lowercase();
        let bare = word.split_once('.').map_or(word.as_str(), |(bare, _)| bare);
        Self::ALL.into_iter().find(|kind| {
            let name = kind.as_str().to_lowercase();
            bare == kind.short() || bare == name || bare.strip_suffix('s') == Some(&name)
        })
    }

    fn short(self) -> &'static str {
        match self {
            Self::Deployment => "deploy",
            Self::ReplicaSet => "rs",
            Self::ReplicationController => "rc",
            Self::StatefulSet => "sts",
            Self::DaemonSet => "ds",
            Self::Job => "job",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_names_of_kubectl() {
        for word in ["deploy", "deployment", "deployments", "Deployment", "deployments.apps"] {
            assert_eq!(Kind::named(word), Some(Kind::Deployment), "{word}");
        }
        for (word, kind) in [("rs", "ReplicaSet"), ("rc", "ReplicationController"), ("jobs", "Job")] {
            assert_eq!(Kind::named(word).map(Kind::as_str), Some(kind), "{word}");
        }
        assert_eq!(Kind::named("pods"), None);
    }
}
