//! `image pull`: images from registries.

#[cfg(feature = "registry")]
use anyhow::Context as _;
use anyhow::Result;
use clap::Args;

#[cfg(feature = "registry")]
use crate::{
    commands::node::say,
    image::{Access, Keys, mounted},
    state::Kind,
};
use crate::{
    image::{Reference, Store},
    state::Root,
};

/// Under what a secret has docker's config.json.
#[cfg(feature = "registry")]
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// What to pull.
#[derive(Debug, Args)]
pub(crate) struct PullArgs {
    /// Their names
    #[arg(required = true)]
    names: Vec<Reference>,
    /// A registry that is spoken to without TLS, as those on the loopback of this machine are
    #[arg(long, value_name = "HOST:PORT", env = "FLATPOD_INSECURE_REGISTRY", value_delimiter = ',')]
    insecure_registry: Vec<String>,
    /// For a pod: with the passwords that it names
    #[arg(long, value_name = "UID", hide = true)]
    pod: Option<String>,
}

/// Says how it could be done.
#[cfg(not(feature = "registry"))]
pub(super) fn run(_: &Root, _: &Store, args: &PullArgs) -> Result<()> {
    let name = args.names.first().map(ToString::to_string).unwrap_or_default();
    anyhow::bail!(
        "this flatpod pulls nothing from registries: build one that does with cargo build --release -p flatpod \
         --features registry, or load the image: docker save {name} | flatpod image load -"
    )
}

/// Does it.
#[cfg(feature = "registry")]
pub(super) fn run(root: &Root, store: &Store, args: &PullArgs) -> Result<()> {
    let mut keys = Keys::default();
    // What is said to a pod is said beside the image's name.
    let unread = args.pod.as_ref().map(|uid| add_secrets(&mut keys, root, uid)).transpose()?;
    keys.add_own()?;
    let access = Access { keys, insecure: args.insecure_registry.clone() };
    for name in &args.names {
        let pulled = store.pull(name, &access).with_context(|| match &unread {
            Some(unread) => unread.clone(),
            None => format!("pull {name}"),
        });
        match pulled? {
            Some(image) => say(&format!("image/{} pulled", image.reference))?,
            None => say(&format!("image/{name} is up to date"))?,
        }
    }
    // Not after a failure: what came whole is for the next try.
    store.sweep(|| mounted(root))
}

/// Adds the passwords in the secrets that a pod names; answers what is done, and without which of them.
#[cfg(feature = "registry")]
fn add_secrets(keys: &mut Keys, root: &Root, uid: &str) -> Result<String> {
    let pod = root.pod(uid).manifest()?;
    let namespace = pod.metadata.namespace.unwrap_or_default();
    let mut unread = vec![];
    for secret in pod.spec.and_then(|spec| spec.image_pull_secrets).into_iter().flatten() {
        let data = root.objects().data(Kind::Secret, &namespace, &secret.name)?;
        let told = match data.map(|mut data| data.remove(DOCKER_CONFIG)) {
            None => "there is no such secret".to_owned(),
            Some(None) => {
                format!("it has no {DOCKER_CONFIG}: it is to be of type kubernetes.io/dockerconfigjson")
            }
            Some(Some(document)) => match keys.add(&document) {
                Ok(()) => continue,
                Err(error) => format!("{error:#}"),
            },
        };
        unread.push(format!("without imagePullSecret {:?} ({told})", secret.name));
    }
    Ok(if unread.is_empty() { "pull".to_owned() } else { format!("pull {}", unread.join(", ")) })
}
