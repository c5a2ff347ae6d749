//! NAT gateways, and what they answer.

use std::net::Ipv4Addr;

use minivpc_model::*;

use super::*;

impl Oracle<'_> {
    pub(super) fn nat(&self, nat: NatGatewayId, eni: &NetworkInterface, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        let own = eni.private_ip;
        let no_session = Fate::Dropped(Place::NoSession(nat));
        if packet.src == own {
            return Fate::Dropped(Place::Loop(nat)); // NAT-22
        }
        let after = if packet.dst == own {
            let Some((after, session)) = self.translate_back(nat, own, &packet) else {
                return no_session; // NAT-21
            };
            if packet.ttl <= 1 {
                return self.time_exceeded(nat, eni, packet, trip); // NAT-15
            }
            if is_reset(packet.what) {
                trip.closed.push(session);
            }
            after
        } else {
            if packet.ttl <= 1 {
                return self.time_exceeded(nat, eni, packet, trip);
            }
            match self.translate(nat, eni, &packet, trip) {
                Ok(after) => after,
                Err(fate) => return fate,
            }
        };
        if trip.by_nat {
            trip.kinds.insert("two gateways");
        }
        if trip.maybe.is_some() {
            trip.kinds.insert("tracked by path");
        }
        trip.middlebox = true;
        trip.by_nat = true; // SG-15
        trip.tracked.extend(trip.maybe.take());
        self.route(eni.subnet, Datum { ttl: packet.ttl - 1, ..after }, trip)
    }

    /// A reply, or an error about what the gateway sent; none if it is for no session.
    fn translate_back(&self, nat: NatGatewayId, own: Ipv4Addr, packet: &Datum) -> Option<(Datum, Session)> {
        // What the gateway had sent, and to whom.
        let (peer, (protocol, port, peer_port)) = match packet.what {
            What::Error { quoted: (src, dst, flow), .. } if src == own => (dst, flow),
            What::Error { .. } => return None,
            what => (packet.src, back(flowing(what))),
        };
        let (session, _) = self.ports.iter().find(|((gateway, _, dst, flow), leased)| {
            *gateway == nat && *dst == peer && flow.0 == protocol && flow.2 == peer_port && **leased == port
        })?;
        let (_, client, dst, flow) = *session;
        let what = match packet.what {
            What::EchoReply(_) => What::EchoReply(flow.1),
            What::Echo(_) => return None,
            What::Udp(..) => What::Udp(flow.2, flow.1),
            What::Tcp(_, _, tcp) => What::Tcp(flow.2, flow.1, tcp),
            What::Error { kind, code, .. } => What::Error { kind, code, quoted: (client, dst, flow) },
            What::Other(_) => return None,
        };
        Some((Datum { dst: client, what, ..*packet }, *session))
    }

    fn translate(
        &self,
        nat: NatGatewayId,
        eni: &NetworkInterface,
        packet: &Datum,
        trip: &mut Trip<'_>,
    ) -> Result<Datum, Fate> {
        let own = eni.private_ip;
        let no_session = Fate::Dropped(Place::NoSession(nat));
        if let What::Error { kind, code, quoted: (src, dst, flow) } = packet.what {
            // NAT-14: about a packet that this client had received through the gateway.
            let port = self.ports.get(&(nat, dst, src, back(flow))).ok_or(no_session)?;
            let quoted = (src, own, (flow.0, flow.1, *port));
            return Ok(Datum { src: own, what: What::Error { kind, code, quoted }, ..*packet });
        }
        let session = (nat, packet.src, packet.dst, flowing(packet.what));
        let known = self.ports.get(&session).copied();
        let opens = match packet.what {
            What::Other(_) => return Err(Fate::Dropped(Place::NatProtocol(nat))), // NAT-8
            What::EchoReply(_) => return Err(no_session),
            What::Echo(_) | What::Udp(..) | What::Tcp(_, _, Tcp::Syn) => true,
            _ => false,
        };
        if known.is_none() && !opens {
            return Err(match packet.what {
                What::Tcp(from, to, Tcp::Ack) => {
                    // NAT-18: in the destination's name.
                    trip.kinds.insert("reset");
                    let what = What::Tcp(to, from, Tcp::Rst);
                    self.answer(eni, Datum { src: packet.dst, dst: packet.src, what, ttl: 255 }, trip)
                }
                _ => no_session,
            });
        }
        // Without one it is dropped further on.
        let port = known.or_else(|| (trip.seen_port)(session)).unwrap_or_default();
        if known.is_none() {
            trip.opened.push((session, port));
        }
        if is_reset(packet.what) {
            trip.closed.push(session);
        }
        let what = match packet.what {
            What::Echo(_) => What::Echo(port),
            What::Udp(_, to) => What::Udp(port, to),
            What::Tcp(_, to, tcp) => What::Tcp(port, to, tcp),
            other => other,
        };
        Ok(Datum { src: own, what, ..*packet })
    }

    fn time_exceeded(&self, nat: NatGatewayId, eni: &NetworkInterface, packet: Datum, trip: &mut Trip<'_>) -> Fate {
        if matches!(packet.what, What::Error { .. }) {
            return Fate::Dropped(Place::NoErrorAboutAnError(nat));
        }
        let quoted = (packet.src, packet.dst, flowing(packet.what));
        let what = What::Error { kind: 11, code: 0, quoted };
        self.answer(eni, Datum { src: eni.private_ip, dst: packet.src, what, ttl: 255 }, trip)
    }

    /// What a gateway says to the sender of a packet goes by its subnet's router.
    fn answer(&self, gateway: &NetworkInterface, answer: Datum, trip: &mut Trip<'_>) -> Fate {
        self.answered(trip, |known, back| {
            back.way.push(gateway.id);
            known.route(gateway.subnet, answer, back)
        })
    }

    /// What the network says to the sender of a packet.
    pub(super) fn answered(&self, trip: &mut Trip<'_>, say: impl FnOnce(&Self, &mut Trip<'_>) -> Fate) -> Fate {
        // All know by then what the sender has sent.
        let mut known = self.clone();
        known.learn(trip);
        let mut back = Trip::new(trip.seen_port);
        back.middlebox = true; // SG-7: whatever name it says it in.
        let fate = say(&known, &mut back);
        if !matches!(fate, Fate::Dropped(_)) {
            trip.untracked.extend(back.untracked);
            trip.closed.extend(back.closed);
        }
        trip.kinds.extend(back.kinds);
        Fate::Answered(Box::new(fate))
    }
}
