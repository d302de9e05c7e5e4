//! Images that containers need from registries: each is pulled by a process of its own, and after a failure again,
//! with longer and longer waits (the kubelet's image manager).

use std::process::{Child, Stdio};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Container;

use super::{
    Supervisor,
    decide::{LONGEST_WAIT, backoff},
    runs::HOLD,
};
use crate::{
    container::CannotMake,
    image::{ImageError, Reference},
    ourselves,
};

/// How far one container's image is.
#[derive(Debug, Default)]
pub(super) struct Pull {
    asked: Option<Asked>,
    /// It was pulled for the run that comes next.
    done: bool,
    /// How often in a row it could not be pulled, what was wrong the last time, and when it is tried again.
    failures: u32,
    failed: Option<(String, Timestamp)>,
}

/// A process that pulls. It ends with us.
#[derive(Debug)]
struct Asked {
    child: Child,
    image: String,
    since: Timestamp,
}

impl Pull {
    /// Until when nothing else is to be done for the container.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.asked.as_ref().map(|_| Timestamp::MAX)
    }
}

impl Asked {
    /// The answer, when there is one: nothing for yes, or what is wrong.
    fn answer(&mut self) -> Result<Option<Result<(), String>>> {
        let Some(status) = self.child.try_wait().context("wait for a pull")? else { return Ok(None) };
        if status.success() {
            return Ok(Some(Ok(())));
        }
        Ok(Some(Err(ourselves::complaint(&mut self.child, status).context("read why a pull failed")?)))
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // It may have ended meanwhile; there is nobody to tell any more.
            let _ = self.child.kill().and_then(|()| self.child.wait());
        }
    }
}

impl Supervisor {
    /// Answers whether a container can be started as far as its image goes. If not, that is being pulled, or waits for
    /// the next try. What is not to be pulled is looked for in the store alone.
    pub(super) fn has_image(&mut self, container: &Container) -> Result<bool> {
        let name = container.image.as_deref().unwrap_or_default();
        let run = self.runs.get_mut(&container.name).context("every container has a run")?;
        let done = std::mem::take(&mut run.pull.done);
        let Ok(reference) = name.parse::<Reference>() else { return Ok(true) };
        if done || !cfg!(feature = "registry") || reference.is_only_here() {
            return Ok(true);
        }
        let is_wanted = match container.image_pull_policy.as_deref() {
            Some("Never") => false,
            Some("Always") => true,
            _ => match self.images.find(name) {
                Ok(_) => false,
                Err(error) if error.downcast_ref::<ImageError>().is_some() => true,
                Err(error) => return Err(error),
            },
        };
        if !is_wanted {
            return Ok(true);
        }
        if let Some((message, until)) = run.pull.failed.clone().filter(|(_, until)| Timestamp::now() < *until)
        {
            let waits = format!("Back-off pulling image {name:?}");
            self.events.normal("BackOff", &waits);
            self.events.warning("Failed", "Error: ImagePullBackOff");
            let message = format!("{waits}: ErrImagePull: {message}");
            run.held = Some((CannotMake { reason: "ImagePullBackOff", message }, until));
            return Ok(false);
        }
        self.events.normal("Pulling", &format!("Pulling image {name:?}"));
        let mut command = ourselves::command();
        command.arg("--root").arg(self.root.path()).args([
            "image",
            "pull",
            "--pod",
            self.dir.uid(),
            "--",
            name,
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let child = command.spawn().context("pull an image")?;
        run.pull.asked = Some(Asked { child, image: name.to_owned(), since: Timestamp::now() });
        Ok(false)
    }

    /// Learns what came of pulls. For a pod that ends nothing is pulled any more.
    pub(super) fn see_pulls(&mut self) -> Result<()> {
        for run in self.runs.values_mut() {
            let Some(asked) = run.pull.asked.as_mut().filter(|_| self.end.is_none()) else {
                run.pull.asked = None;
                continue;
            };
            let Some(answer) = asked.answer()? else { continue };
            let (image, now) = (&asked.image, Timestamp::now());
            match answer {
                Ok(()) => {
                    let took = now.duration_since(asked.since).as_millis();
                    let told = format!("Successfully pulled image {image:?} in {took}ms");
                    self.events.normal("Pulled", &told);
                    run.held = None;
                    run.pull = Pull { done: true, ..Pull::default() };
                }
                Err(message) => {
                    self.events.warning("Failed", &format!("Failed to pull image {image:?}: {message}"));
                    self.events.warning("Failed", "Error: ErrImagePull");
                    let failures = run.pull.failures + 1;
                    let wait = SignedDuration::try_from(backoff(failures, LONGEST_WAIT));
                    let next = now + wait.unwrap_or(HOLD);
                    let wrong = CannotMake { reason: "ErrImagePull", message: message.clone() };
                    // For a while it is said what went wrong, for the rest that it is waited.
                    run.held = Some((wrong, next.min(now + HOLD)));
                    run.pull = Pull { failures, failed: Some((message, next)), ..Pull::default() };
                }
            }
        }
        Ok(())
    }
}
