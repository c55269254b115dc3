//! The desktop's keyring: keeps what a passphrase comes to, so that nobody has to type it who has logged in.
//!
//! It is asked by the Secret Service's interface on the session bus (GNOME's keyring, KWallet, KeePassXC). The session is a
//! plain one: what reads along on the bus could ask for the same itself. The sealed profile stays as it is, and its
//! passphrase opens it with or without a keyring.

use zeroize::Zeroizing;

use crate::vault::VaultId;

/// Bytes of what is kept.
pub(crate) const KEY_LEN: usize = 32;
/// A service that does not answer in this time is none.
#[cfg(all(feature = "keyring", target_os = "linux"))]
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);

/// Why the keyring is of no use. The text goes on with what else opens the profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// Nothing answers on the bus, or there is no bus.
    #[error("no keyring answers here")]
    NoService,
    /// It is there, and locked.
    #[error("the desktop's keyring is locked: unlock it there first")]
    Locked,
    /// It does not have this key: another desktop, or somebody removed it.
    #[error("the desktop's keyring does not have the key of this profile")]
    Missing,
    /// It says something else.
    #[error("the desktop's keyring refuses: {0}")]
    Refused(String),
}

#[cfg(all(feature = "keyring", target_os = "linux"))]
pub(crate) use service::{find, forget, keep};

#[cfg(not(all(feature = "keyring", target_os = "linux")))]
pub(crate) use absent::{find, forget, keep};

#[cfg(all(feature = "keyring", target_os = "linux"))]
mod service {
    use std::collections::HashMap;

    use zbus::{
        blocking::{Connection, Proxy, connection::Builder},
        zvariant::{OwnedObjectPath, OwnedValue, Type, Value},
    };
    use zeroize::Zeroize as _;

    use super::{KEY_LEN, KeyringError, PATIENCE, VaultId, Zeroizing};

    const SERVICE: &str = "org.freedesktop.secrets";
    const ROOT: &str = "/org/freedesktop/secrets";
    const NOTHING: &str = "/";

    /// As the interface has it.
    #[derive(serde::Serialize, serde::Deserialize, Type)]
    struct Secret {
        session: OwnedObjectPath,
        parameters: Vec<u8>,
        value: Vec<u8>,
        content_type: String,
    }

    impl Drop for Secret {
        fn drop(&mut self) {
            self.value.zeroize();
        }
    }

    impl From<zbus::Error> for KeyringError {
        fn from(error: zbus::Error) -> Self {
            const GONE: [&str; 4] = [
                "org.freedesktop.DBus.Error.ServiceUnknown",
                "org.freedesktop.DBus.Error.NameHasNoOwner",
                "org.freedesktop.DBus.Error.NoReply",
                "org.freedesktop.DBus.Error.Spawn.ChildExited",
            ];
            if let zbus::Error::MethodError(name, detail, _message) = &error {
                if GONE.contains(&name.as_str()) {
                    return Self::NoService;
                }
                if name.as_str() == "org.freedesktop.Secret.Error.IsLocked" {
                    return Self::Locked;
                }
                return Self::Refused(detail.clone().unwrap_or_else(|| name.to_string()));
            }
            tracing::debug!(%error, "the keyring");
            Self::NoService
        }
    }

    struct Keyring {
        bus: Connection,
        session: OwnedObjectPath,
    }

    impl Keyring {
        fn open() -> Result<Self, KeyringError> {
            let bus = Builder::session()?.method_timeout(PATIENCE).build()?;
            let service = proxy(&bus, ROOT, "Service")?;
            let (_output, session): (OwnedValue, OwnedObjectPath) =
                service.call("OpenSession", &("plain", Value::from("")))?;
            drop(service);
            Ok(Self { bus, session })
        }

        /// What was kept for this vault: open, and locked.
        fn items(
            &self,
            vault: VaultId,
        ) -> Result<(Vec<OwnedObjectPath>, Vec<OwnedObjectPath>), KeyringError> {
            let service = proxy(&self.bus, ROOT, "Service")?;
            Ok(service.call("SearchItems", &(attributes(vault),))?)
        }
    }

    fn proxy<'a>(bus: &Connection, path: &'a str, part: &str) -> zbus::Result<Proxy<'a>> {
        let interface = format!("org.freedesktop.Secret.{part}");
        Proxy::new(bus, SERVICE, path, interface)
    }

    fn attributes(vault: VaultId) -> HashMap<String, String> {
        let hex: String = vault.iter().map(|byte| format!("{byte:02x}")).collect();
        let named = [("xdg:schema", "org.ahoy.Profile"), ("vault", hex.as_str())];
        named
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    pub(crate) fn find(vault: VaultId) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyringError> {
        let keyring = Keyring::open()?;
        let (open, locked) = keyring.items(vault)?;
        let Some(item) = open.first() else {
            return Err(if locked.is_empty() {
                KeyringError::Missing
            } else {
                KeyringError::Locked
            });
        };
        let item = proxy(&keyring.bus, item.as_str(), "Item")?;
        let secret: Secret = item.call("GetSecret", &(&keyring.session,))?;
        let key = secret.value.as_slice().try_into();
        let key: [u8; KEY_LEN] = key.map_err(|_length| KeyringError::Missing)?;
        Ok(Zeroizing::new(key))
    }

    pub(crate) fn keep(
        vault: VaultId,
        label: &str,
        key: &[u8; KEY_LEN],
    ) -> Result<(), KeyringError> {
        let keyring = Keyring::open()?;
        let service = proxy(&keyring.bus, ROOT, "Service")?;
        let usual: OwnedObjectPath = service.call("ReadAlias", &("default",))?;
        if usual.as_str() == NOTHING {
            return Err(KeyringError::Refused("it has no place for new keys".into()));
        }
        let properties: HashMap<&str, Value<'_>> = [
            ("org.freedesktop.Secret.Item.Label", Value::from(label)),
            (
                "org.freedesktop.Secret.Item.Attributes",
                Value::from(attributes(vault)),
            ),
        ]
        .into();
        let secret = Secret {
            session: keyring.session.clone(),
            parameters: Vec::new(),
            value: key.to_vec(),
            content_type: "application/octet-stream".into(),
        };
        let collection = proxy(&keyring.bus, usual.as_str(), "Collection")?;
        let made: (OwnedObjectPath, OwnedObjectPath) =
            collection.call("CreateItem", &(properties, &secret, true))?;
        // Somebody would have to be asked.
        if made.1.as_str() == NOTHING {
            Ok(())
        } else {
            Err(KeyringError::Locked)
        }
    }

    pub(crate) fn forget(vault: VaultId) -> Result<(), KeyringError> {
        let keyring = Keyring::open()?;
        let (open, locked) = keyring.items(vault)?;
        for item in &open {
            let item = proxy(&keyring.bus, item.as_str(), "Item")?;
            let prompt: OwnedObjectPath = item.call("Delete", &())?;
            if prompt.as_str() != NOTHING {
                return Err(KeyringError::Locked);
            }
        }
        if locked.is_empty() {
            Ok(())
        } else {
            Err(KeyringError::Locked)
        }
    }
}

#[cfg(not(all(feature = "keyring", target_os = "linux")))]
mod absent {
    use super::{KEY_LEN, KeyringError, VaultId, Zeroizing};

    pub(crate) fn find(_vault: VaultId) -> Result<Zeroizing<[u8; KEY_LEN]>, KeyringError> {
        Err(KeyringError::NoService)
    }

    pub(crate) fn keep(
        _vault: VaultId,
        _label: &str,
        _key: &[u8; KEY_LEN],
    ) -> Result<(), KeyringError> {
        Err(KeyringError::NoService)
    }

    pub(crate) fn forget(_vault: VaultId) -> Result<(), KeyringError> {
        Err(KeyringError::NoService)
    }
}
