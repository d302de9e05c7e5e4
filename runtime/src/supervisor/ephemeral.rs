//! Ephemeral containers of a supervised pod: they come when the pod runs already, and count for nothing.

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Container;

use super::{
    Supervisor,
    decide::{State, containers},
    runs::Run,
};
use crate::{
    container::{CannotMake, as_container, ephemeral},
    state::ProcessId,
};

impl Supervisor {
    /// Any container of the pod.
    pub(super) fn container(&self, name: &str) -> Result<Container> {
        let own = containers(self.spec()).find(|one| one.name == name).cloned();
        let found = own.or_else(|| ephemeral(self.spec()).find(|one| one.name == name).map(as_container));
        found.with_context(|| format!("no container {name} in the manifest"))
    }

    pub(super) fn is_ephemeral(&self, name: &str) -> bool {
        ephemeral(self.spec()).any(|one| one.name == name)
    }

    /// Learns of containers that were added since the last look.
    pub(super) fn meet_ephemeral(&mut self) -> Result<()> {
        let added = self.dir.manifest()?.spec.and_then(|spec| spec.ephemeral_containers);
        let names: Vec<String> = added.iter().flatten().map(|one| one.name.clone()).collect();
        if let Some(spec) = &mut self.pod.spec {
            spec.ephemeral_containers = added;
        }
        for name in names {
            if self.runs.contains_key(&name) {
                continue;
            }
            let run = Run::new(&self.dir, &name);
            if let Some(record) = self.dir.container(&name)? {
                run.watch(&mut self.watch, record)?;
            }
            self.runs.insert(name, run);
        }
        Ok(())
    }

    /// The first process of the container that `name` looks into, if it looks into one.
    pub(super) fn target_of(&self, name: &str) -> Result<Option<ProcessId>, CannotMake> {
        let one = ephemeral(self.spec()).find(|one| one.name == name);
        let Some(target) = one.and_then(|one| one.target_container_name.as_deref()) else {
            return Ok(None);
        };
        let run = self.runs.get(target).filter(|run| matches!(run.state, State::Active { .. }));
        match run.and_then(|run| run.started.as_ref()) {
            Some(started) => Ok(Some(started.init)),
            None => Err(CannotMake {
                reason: "CreateContainerError",
                message: format!("container {target}, whose processes it is to see, is not running"),
            }),
        }
    }
}
