//! Backups: asked for now, there later; only services with a mounted directory have them.

use chrono::{DateTime, TimeDelta, Utc};

use super::State;
use super::collection::Id;
use super::service::{AfterStop, Backup, Job, JobKind, LogSource, Service, span};
use crate::limits;
use crate::refusal::Refusal;

/// A link under which an archive can be fetched for a while.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    pub(crate) key: String,
    pub(crate) archive_name: String,
    pub(crate) valid_until: DateTime<Utc>,
}

impl State {
    /// Whether a service has anything to back up.
    pub(crate) fn is_backupable(&self, service: &Service) -> bool {
        self.configs
            .get(service.config_id)
            .is_some_and(|config| !config.spec.mounts.is_empty())
    }

    /// Begins a backup.
    pub(crate) fn begin_backup(&mut self, id: Id, name: String) -> Result<(), Refusal> {
        let service = self.services.find(id)?;
        if !self.is_backupable(service) {
            return Err(Refusal::field(
                "name",
                "The service has nothing that can be backed up.",
            ));
        }
        self.begin_job(id, JobKind::Backup { name })
    }

    /// Begins to restore the latest backup.
    pub(crate) fn begin_restore(&mut self, id: Id) -> Result<(), Refusal> {
        latest(self.services.find(id)?)?;
        self.begin_job(id, JobKind::Restore)
    }

    /// A job that is going on ends first: what was asked for is never lost.
    fn begin_job(&mut self, id: Id, kind: JobKind) -> Result<(), Refusal> {
        self.finish_job(id);
        let (now, until) = (self.now, self.now + span(self.delays.backup_ms));
        let service = self.services.find_mut(id)?;
        service.job = Some(Job { kind, until });
        service.updated_at = now;
        Ok(())
    }

    /// Ends the job of a service, if it has one.
    pub(super) fn finish_job(&mut self, id: Id) {
        let (now, delays) = (self.now, self.delays);
        self.archives += 1;
        let archive_name = format!("service-{id}-{}.tar.gz", self.archives);
        let Ok(service) = self.services.find_mut(id) else {
            return;
        };
        match service.job.take().map(|job| job.kind) {
            Some(JobKind::Backup { name }) => {
                if service.backups.len() == limits::BACKUPS {
                    service.backups.remove(0);
                }
                service.say(now, LogSource::Stdout, "backup finished");
                let created_at = now;
                service.backups.push(Backup {
                    name,
                    archive_name,
                    created_at,
                    restored_at: None,
                });
            }
            Some(JobKind::Restore) => {
                if let Some(backup) = service.backups.last_mut() {
                    backup.restored_at = Some(now);
                }
                service.say(now, LogSource::Stdout, "backup restored");
                service.stop(now, &delays, AfterStop::StartAgain);
            }
            None => return,
        }
        service.updated_at = now;
    }

    /// Makes a link to the latest backup of a service.
    pub(crate) fn download_link(&mut self, id: Id) -> Result<Download, Refusal> {
        let archive_name = latest(self.services.find(id)?)?.archive_name.clone();
        let valid_until = self.now + TimeDelta::seconds(limits::DOWNLOAD_SECONDS);
        let key = self.random_hex();
        let download = Download {
            key,
            archive_name,
            valid_until,
        };
        if self.downloads.len() == limits::DOWNLOADS {
            self.downloads.pop_front();
        }
        self.downloads.push_back(download.clone());
        Ok(download)
    }
}

/// The latest backup of a service.
pub(crate) fn latest(service: &Service) -> Result<&Backup, Refusal> {
    service.backups.last().ok_or(Refusal::NotFound("Backup"))
}
