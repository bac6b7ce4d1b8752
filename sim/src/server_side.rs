//! What happens at the endpoints: the gate decides, the application serves, the answer leaves.

use spillway_core::config::Mode;
use spillway_core::gate::Verdict;
use spillway_core::header::{Hop, Load};
use spillway_core::totals::epoch::Epoch;

use crate::endpoint::{Arrival, Phase, THREADS};
use crate::events::Event;
use crate::measure::LetIn;
use crate::random::nanos;
use crate::requests::Outcome;
use crate::run::{Run, TICK, number};
use crate::scenario::{Scheme, Takes};

impl Run {
    /// An attempt reaches its endpoint.
    pub(crate) fn reach(&mut self, at: u32) -> Option<()> {
        let now = self.clock();
        let worker = self.random.below(THREADS);
        let shares = matches!(self.scenario.mode, Mode::SwitchService(_));
        let request = self.requests.get_mut(at)?;
        let endpoint = *request.tried.last()?;
        let process = self.threads.get(request.thread)?.process;
        let group = self.processes.get(process)?.group;
        let home = *self.scenario.callers.get(group)?.ladder.first()?;
        let server = self.endpoints.get_mut(endpoint as usize)?;
        let cluster = server.cluster;
        let site = self.sites.get(cluster)?;
        if server.phase != Phase::Ready || site.failing {
            // A failing cluster's gateway answers for it, without a word of Spillway's.
            request.outcome = if site.failing {
                Outcome::Failed
            } else {
                Outcome::Refused
            };
            request.load.clear();
            let wait = self.delay(home, cluster);
            self.after(wait, Event::Return(at));
            return Some(());
        }
        let began = request.began;
        request.worker = worker;
        let mut verdict = Verdict::Admit;
        if self.scenario.scheme == Scheme::Spillway {
            let hop = Hop::parse(&request.hop);
            let arrival = Arrival {
                hop: hop.as_ref(),
                attempt: request.attempts,
                own: &site.name,
                shed: self.scenario.shed,
                capacity: site.capacity.as_ref(),
                now,
                thread: worker,
            };
            if shares {
                request.news = server.hear(&arrival, Epoch::of_hop(&request.hop));
            }
            let (classified, told, rho) = server.ask(&arrival);
            verdict = told;
            request.classified = Some(classified);
            if matches!(verdict, Verdict::Bounce | Verdict::Shed) {
                Load {
                    cluster: &site.name,
                    rho: rho.unwrap_or_default(),
                    attempt: request.attempts,
                }
                .write(&mut request.load);
                request.outcome = if verdict == Verdict::Bounce {
                    self.measured.on_bounce(began, self.now);
                    Outcome::Bounced
                } else {
                    Outcome::Shed
                };
                let wait = self.delay(home, cluster);
                self.after(wait, Event::Return(at));
                return Some(());
            }
        }
        let let_in = LetIn {
            cluster,
            own: cluster == home,
            forced: verdict == Verdict::Force,
            group,
            caller: process,
            began,
        };
        self.measured.on_let_in(&let_in, self.now);
        let places = self.scenario.clusters.get(cluster)?.service.places;
        if server.begin(at, places, self.now) {
            self.serve(at, endpoint, cluster)?;
        }
        Some(())
    }

    /// An application begins with a request.
    fn serve(&mut self, request: u32, endpoint: u32, cluster: usize) -> Option<()> {
        let takes = match self.scenario.clusters.get(cluster)?.service.takes {
            Takes::Fixed(seconds) => seconds,
            Takes::Exponential(mean) => self.random.exponential(mean),
        };
        let slow = self.endpoints.get(endpoint as usize)?.slow;
        self.after(nanos(takes * slow), Event::Served(request));
        Some(())
    }

    /// An application has served a request.
    pub(crate) fn served(&mut self, at: u32) -> Option<()> {
        let request = self.requests.get_mut(at)?;
        let endpoint = *request.tried.last()?;
        let process = self.threads.get(request.thread)?.process;
        let group = self.processes.get(process)?.group;
        let home = *self.scenario.callers.get(group)?.ladder.first()?;
        let server = self.endpoints.get_mut(endpoint as usize)?;
        let cluster = server.cluster;
        let next = server.end(self.now);
        let site = self.sites.get(cluster)?;
        request.load.clear();
        request.outcome = if server.phase == Phase::Dead {
            Outcome::Failed
        } else {
            Outcome::Served
        };
        if let Some(classified) = &request.classified {
            let counted = site.capacity.is_some_and(|c| c.concurrency.is_some());
            if counted {
                server.release();
            }
            let rho = server.rho_for(classified, request.worker);
            let deaf = self.random.share(self.scenario.network.deaf);
            if (rho.is_some() || request.news.is_some())
                && !deaf
                && request.outcome == Outcome::Served
            {
                Load {
                    cluster: &site.name,
                    rho: rho.unwrap_or_default(),
                    attempt: request.attempts,
                }
                .write(&mut request.load);
                if let Some(news) = &request.news {
                    news.append(&mut request.load);
                }
            }
        }
        let wait = self.delay(home, cluster);
        self.after(wait, Event::Return(at));
        if let Some(next) = next {
            self.serve(next, endpoint, cluster)?;
        }
        Some(())
    }

    /// A thread of an endpoint ticks.
    pub(crate) fn tick(&mut self, at: u32) -> Option<()> {
        let threads = number(THREADS);
        let (endpoint, thread) = (at / threads, (at % threads) as usize);
        let now = self.clock();
        let cluster = self.endpoints.get(endpoint as usize)?.cluster;
        let limits = self.shared_limits(cluster);
        let server = self.endpoints.get_mut(endpoint as usize)?;
        if server.phase == Phase::Dead {
            return None;
        }
        let site = self.sites.get(server.cluster)?;
        if let Some(limits) = limits {
            // Any number that differs by endpoint.
            server.total(thread, &limits, now, u64::from(endpoint) + 1);
        }
        let rho = server.tick(thread, site.capacity.as_ref(), now);
        if server.cluster == 0 && server.phase == Phase::Ready {
            self.measured.on_rho(rho, self.now);
        }
        self.again(TICK, Event::Tick(at));
        Some(())
    }
}
