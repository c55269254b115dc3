//! Another thing is to open the profile: everything in it is sealed anew, with a key that nothing older knows.

use super::{Store, StoreError, sealed::Sealer};
use crate::{
    profile::{ProfileError, ProfileLock, sealing::SealedFile},
    settings::Settings,
    vault::{NewProtection, Vault},
};

/// Seals the whole profile with a new key, which `protection` opens from now on. A kill at any moment leaves all as it was
/// before, or as it is afterwards.
///
/// # Errors
/// When something cannot be read or written, or the passphrase is too short; then everything is as it was.
pub fn reseal(lock: &ProfileLock, protection: NewProtection<'_>) -> Result<(), StoreError> {
    let profile = lock.profile();
    let vault_error = |error| ProfileError::Vault(profile.dir().join("vault"), error);
    let identity = profile.load()?;
    // With this everything is sealed that is not yet.
    let store = Store::open(lock)?;
    let items = store.items()?;
    drop(store);
    let settings = Settings::private_text(profile);
    let settings = settings.map_err(|error| StoreError::Settings(Box::new(error)))?;
    let people = profile.read_sealed(SealedFile::People)?;

    let new = Vault::create(protection).map_err(vault_error)?;
    let writing = profile.begin_write()?;
    profile.put_key_file(&writing, &new)?;
    if let Some(identity) = identity {
        profile.write_pending_identity(&new.vault, &identity)?;
    }
    if let Some(settings) = settings {
        profile.write_pending(&new.vault, SealedFile::Settings, settings.as_bytes())?;
    }
    if let Some(people) = people {
        profile.write_pending(&new.vault, SealedFile::People, &people)?;
    }
    let pending = SealedFile::Database.pending(new.vault.id());
    let sealer = Sealer::pending(new.vault.again());
    let store = Store::open_file(profile.create_file(&pending)?, sealer)?;
    store.replace_items(&items)?;
    let chats = store.sealer.chat_keys();
    drop(store);
    profile.write_pending(&new.vault, SealedFile::ChatKeys, &chats)?;
    Ok(profile.count_from_now(&writing, new)?)
}
