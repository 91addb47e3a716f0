//! Reload: the configuration is read again, and every process is replaced by the executable that lies on disk now, one after the other.
//!
//! - A candidate of the new executable is started beside the occupant of a post; when it is ready the occupant is asked to leave, and the
//!   post is the candidate's with all its connections. Then comes the next post.
//! - If a candidate cannot be started, ends or is not ready in time, or if a new occupant dies young, the reload fails: posts that were
//!   filled anew get the executable of before again in the same way, the others never lost their occupants.
//! - A post that is empty because it could not be filled is filled by the new executable; if that cannot either, the others have it
//!   all the same, and the outcome says so.
//! - Which executable a post has besides is not the reload's business: a death meanwhile is dealt with like any other.
//! - When the last new occupant has lived for a while, the new executable is the one from which the dead are replaced.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use role::ToRole;

use crate::control::Reply;
use crate::image::Image;
use crate::master::Master;
use crate::member::Member;
use crate::post::{Post, YOUNG};
use crate::stop::Phase;
use crate::supervision::{LEAVE_TIMEOUT, READY_TIMEOUT};

/// A reload in progress.
pub struct Reload {
    image: Rc<Image>,
    /// Who waits for the outcome on the control socket.
    client: Option<u32>,
    /// What became of the configuration.
    settings: String,
    /// Posts still to be replaced; once it has failed, to be put back.
    left: VecDeque<usize>,
    step: Option<Step>,
    /// Posts that have the new executable.
    replaced: Vec<usize>,
    /// Posts that were empty because they could not be filled, and that the new executable could not fill either, with the reason.
    unfilled: Vec<String>,
    /// Why it failed.
    failure: Option<String>,
    /// When all new occupants have lived long enough.
    proven_at: Instant,
}

/// The post at which it is.
#[derive(Clone, Copy)]
struct Step {
    post: usize,
    /// The candidate, once it is started.
    pid: Option<i32>,
    /// When the occupant died, before there was a candidate ready to succeed it.
    empty_since: Option<Instant>,
    /// It was empty before.
    was_empty: bool,
    /// And a candidate had failed there already.
    was_unfilled: bool,
}

impl Reload {
    /// When it goes on although nothing happens.
    pub fn until(&self) -> Option<Instant> {
        let waits = self.step.is_none() && self.left.is_empty();
        waits.then_some(self.proven_at)
    }

    /// For `status`.
    pub fn describe(&self, posts: &[Post]) -> String {
        let done = self.replaced.len();
        match (&self.failure, self.step) {
            (Some(why), _) => format!("going back: {why}"),
            (None, Some(step)) => format!(
                "{done} of {} replaced, now {}",
                posts.len(),
                posts[step.post].name()
            ),
            (None, None) => format!("{done} of {} replaced", posts.len()),
        }
    }

    fn fail(&mut self, why: String) {
        tracing::error!(why, "the reload has failed and goes back");
        self.left = self.replaced.drain(..).rev().collect();
        self.failure = Some(why);
    }
}

impl Master<'_> {
    /// Begins a reload. Its outcome goes to the log, and to `client` of the control socket; so does the reason when it cannot begin.
    pub fn reload(&mut self, client: Option<u32>) {
        match self.try_reload(client) {
            Ok(reload) => {
                tracing::info!(
                    settings = reload.settings,
                    executable = %reload.image.path().display(),
                    "reload: the configuration is taken over, now the processes"
                );
                self.reload = Some(reload);
                self.tell_the_time(client, self.longest_reload());
            }
            Err(why) => self.tell_outcome(
                client,
                Err(format!("reload refused, everything stays as it was: {why}")),
            ),
        }
    }

    fn try_reload(&mut self, client: Option<u32>) -> Result<Reload, String> {
        if self.reload.is_some() {
            return Err("a reload is under way".into());
        }
        if self.upgrade.is_some() {
            return Err("an upgrade of the master is under way".into());
        }
        match self.phase {
            Phase::Running => {}
            Phase::Starting => return Err("the server is starting".into()),
            _ => return Err("the server is stopping".into()),
        }
        let image = Image::open(&self.executable)
            .map_err(|e| format!("{} cannot be opened: {e}", self.executable.display()))?;
        let settings = self.renew_settings()?;
        Ok(Reload {
            image: Rc::new(image),
            client,
            settings,
            left: (0..self.posts.len()).collect(),
            step: None,
            replaced: Vec::new(),
            unfilled: Vec::new(),
            failure: None,
            proven_at: Instant::now(),
        })
    }

    /// A reload that was asked for by signal: nobody can be told to ask again later, so one that comes during another follows it.
    pub fn reload_by_signal(&mut self) {
        if self.reload.is_some() || self.upgrade.is_some() {
            tracing::info!("a reload or an upgrade is under way; another one follows it");
            self.reload_again = true;
        } else {
            self.reload(None);
        }
    }

    /// Goes on with a reload.
    pub fn settle_reload(&mut self, now: Instant) {
        let Some(mut reload) = self.reload.take() else {
            return;
        };
        let Some(outcome) = self.go_on(&mut reload, now) else {
            self.reload = Some(reload);
            return;
        };
        self.tell_outcome(reload.client, outcome);
        if std::mem::take(&mut self.reload_again) && matches!(self.phase, Phase::Running) {
            self.reload(None);
        }
    }

    /// Does what can be done now; the outcome, when that was all.
    fn go_on(&mut self, reload: &mut Reload, now: Instant) -> Option<Result<String, String>> {
        if self.phase.is_stopping() {
            return Some(Err("reload ended: the server is stopping".into()));
        }
        loop {
            let Some(step) = reload.step else {
                let Some(post) = reload.left.pop_front() else {
                    return self.conclude(reload, now);
                };
                reload.step = Some(Step {
                    post,
                    pid: None,
                    empty_since: None,
                    was_empty: !self.posts[post].has_somebody(),
                    was_unfilled: self.posts[post].cannot_be_filled(),
                });
                continue;
            };
            let image = match reload.failure {
                None => Rc::clone(&reload.image),
                Some(_) => Rc::clone(&self.image),
            };
            let post = &mut self.posts[step.post];
            if let Some(occupant) = &post.occupant
                && Rc::ptr_eq(&occupant.image, &image)
                && occupant.stays()
            {
                reload.step = None;
                if reload.failure.is_none() {
                    reload.replaced.push(step.post);
                    reload.proven_at = now + YOUNG;
                }
                continue;
            }
            match (step.pid, &mut post.candidate, &mut post.occupant) {
                (None, None, _) => match self.recruit(step.post, &image) {
                    Ok(pid) => {
                        reload.step = Some(Step {
                            pid: Some(pid),
                            ..step
                        });
                    }
                    Err(refused) => self.step_failed(reload, step.post, &refused.why),
                },
                // Somebody is on the way there already, after a death.
                (None, Some(_), _) => return None,
                (Some(pid), Some(candidate), occupant) if candidate.pid() == pid => {
                    let waited = step.empty_since.map(|since| now.duration_since(since));
                    if !candidate.ready && waited.is_some_and(|waited| waited > YOUNG) {
                        // Connections wait for it; the executable of before serves them sooner.
                        candidate.condemn("its predecessor died, and it was not ready soon after");
                    }
                    if let Some(occupant) = occupant
                        && candidate.ready
                        && !candidate.is_condemned()
                        && occupant.stays()
                    {
                        occupant.told_to_leave = Some(now);
                        occupant.watched_from = now;
                        occupant.channel.queue(ToRole::Leave);
                    }
                    return None;
                }
                // What was promoted here is not what belongs here, or not any more.
                (Some(_), ..) => reload.step = Some(Step { pid: None, ..step }),
            }
        }
    }

    fn step_failed(&mut self, reload: &mut Reload, post: usize, why: &str) {
        let name = self.posts[post].name();
        // It was empty already: if others could not fill it either, or the new executable is at work in the like, that it cannot be filled
        // is not the new executable's fault.
        let role = self.posts[post].role;
        let is_like = |&other: &usize| self.posts[other].role == role;
        let is_excused = reload.step.take().is_some_and(|step| {
            step.was_unfilled || step.was_empty && reload.replaced.iter().any(is_like)
        });
        if reload.failure.is_none() && is_excused {
            tracing::error!(
                process = name,
                why,
                "it still cannot be filled; the reload goes on"
            );
            reload
                .unfilled
                .push(format!("{name} still cannot be filled: {why}"));
        } else if reload.failure.is_some() {
            tracing::error!(process = name, why, "it could not be put back");
        } else {
            reload.fail(format!("{name}: {why}"));
        }
    }

    fn conclude(&mut self, reload: &Reload, now: Instant) -> Option<Result<String, String>> {
        if let Some(why) = &reload.failure {
            return Some(Err(format!(
                "reload failed, the processes of before are at work: {why}; configuration: {}",
                reload.settings
            )));
        }
        if now < reload.proven_at {
            return None;
        }
        self.image = Rc::clone(&reload.image);
        let mut text = format!(
            "{}; {} processes replaced by {}",
            reload.settings,
            reload.replaced.len(),
            reload.image.path().display()
        );
        for unfilled in &reload.unfilled {
            text = format!("{text}; {unfilled}");
        }
        Some(Ok(text))
    }

    /// A candidate has died. True: the reload has failed with it, and the post is to have one of the executable of before.
    pub fn candidate_lost(&mut self, index: usize, candidate: &Member, why: &str) -> bool {
        let Some(mut reload) = self.reload.take() else {
            return false;
        };
        let is_step = |step: Step| step.post == index && step.pid == Some(candidate.pid());
        let failed_before = reload.failure.is_some();
        let lost = reload.step.is_some_and(is_step);
        if lost {
            let why = format!("the new process ended before it was ready: {why}");
            self.step_failed(&mut reload, index, &why);
        }
        let fails = !failed_before && reload.failure.is_some();
        self.reload = Some(reload);
        lost && fails
    }

    /// An occupant has died. True: the reload has failed with it, and puts one of the executable of before in its place.
    pub fn occupant_lost(
        &mut self,
        index: usize,
        occupant: &Member,
        why: &str,
        lived: Duration,
    ) -> bool {
        let Some(reload) = &mut self.reload else {
            return false;
        };
        if let Some(step) = &mut reload.step
            && step.post == index
        {
            step.empty_since = Some(Instant::now());
        }
        let is_new = Rc::ptr_eq(&occupant.image, &reload.image);
        if !is_new || lived >= YOUNG || reload.failure.is_some() {
            return false;
        }
        // A post whose occupant is leaving cannot be left as it is: its step is finished first, and then undone.
        let step = reload.step.take_if(|step| {
            let post = &self.posts[step.post];
            post.occupant.as_ref().is_some_and(Member::stays)
        });
        if let Some(step) = step
            && let Some(candidate) = &mut self.posts[step.post].candidate
            && step.pid == Some(candidate.pid())
        {
            candidate.condemn("the reload has failed");
        }
        let name = self.posts[index].name();
        reload.fail(format!(
            "{name}: the new process died {} ms after it began: {why}",
            lived.as_millis()
        ));
        true
    }

    /// What the next candidate of a post executes, if no reload starts it.
    pub fn image_for(&self, index: usize) -> Rc<Image> {
        match &self.reload {
            Some(reload) if reload.failure.is_none() && reload.replaced.contains(&index) => {
                Rc::clone(&reload.image)
            }
            _ => Rc::clone(&self.image),
        }
    }

    fn tell_outcome(&mut self, client: Option<u32>, outcome: Result<String, String>) {
        match &outcome {
            Ok(text) => tracing::info!("reload: {text}"),
            Err(text) => tracing::error!("{text}"),
        }
        if let Some(client) = client {
            self.answer_later(client, &Reply::of(outcome));
        }
    }

    /// The longest a reload may take, and go back.
    fn longest_reload(&self) -> Duration {
        let standstill = Duration::from_millis(self.config.server.watchdog_ms.into());
        let posts = u32::try_from(self.posts.len()).unwrap_or(u32::MAX);
        (READY_TIMEOUT + LEAVE_TIMEOUT + standstill) * 2 * posts + YOUNG
    }
}
