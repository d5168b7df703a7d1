//! The one table: what is mutated where, what that would mean, and which test does not let it live.
//!
//! A row is a question that a step asks, answered always in the attacker's favour; or an order of two things, turned
//! round. Its text stands exactly once in its file. In its place comes what stands behind `=>`: for an expression another
//! one, for a statement (it ends with `;`) none or others, and whatever holds `{awake}` as it is, with the question whether
//! this mutant is awake in that place. Places do not overlap.
//!
//! What is not here, because a second check says the same and no test can tell them apart: the expiry that `departure` and
//! `resolve` ask each, the instance in 6.2 step 3 (3.2 and "hosted" refuse it), `ended()` in the log (the doors ask it),
//! the key's name in 5.4.7 (keys are found by it), the member of an invitation (its server is named after it).

/// A row.
pub struct Mutant {
    /// The step, as `exchange.rs` calls it, or the section of PROTOCOL.md, or the part of the bus.
    pub step: &'static str,
    /// What would be so, were it awake in earnest.
    pub means: &'static str,
    pub file: &'static str,
    pub text: &'static str,
    pub instead: &'static str,
    /// File and name of the test that fails.
    pub killer: (&'static str, &'static str),
}

impl Mutant {
    /// Where its text stands, or how often it does.
    pub fn place(&self, file: &str) -> Result<std::ops::Range<usize>, usize> {
        let mut found = file.match_indices(self.text);
        match (found.next(), found.next()) {
            (Some((at, text)), None) => Ok(at..at + text.len()),
            (None, _) => Err(0),
            (Some(_), Some(_)) => Err(2 + found.count()),
        }
    }
}

impl std::fmt::Display for Mutant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} ({})", self.step, self.means, self.file)
    }
}

/// Step, programs of `cannot_compile` without it, programs with it in another place. None of them compiles.
pub const BY_TYPE: &[(&str, &[&str], &[&str])] = &[
    (
        "judged",
        &["consume_skips_the_moment", "provide_skips_the_moment", "seal_skips_the_moment", "record_skips_the_moment"],
        &["seal_judges_twice"],
    ),
    (
        "authenticate::client",
        &["consume_skips_authenticate"],
        &["consume_authorizes_before_it_authenticates", "consume_authenticates_twice"],
    ),
    (
        "authorize::departure",
        &["consume_skips_departure"],
        &["consume_authorizes_before_it_authenticates", "consume_resolves_before_it_authorizes"],
    ),
    ("resolve::provider", &["consume_skips_resolve"], &["consume_resolves_before_it_authorizes"]),
    (
        "message_log.seal_opening",
        &["consume_runs_without_an_opening_in_the_log"],
        &["consume_seals_the_opening_twice", "consume_waits_before_the_log"],
    ),
    ("authenticate::peer", &["provide_skips_authenticate"], &["provide_verifies_before_it_authenticates"]),
    (
        "verify::opening",
        &["provide_skips_verify"],
        &["provide_verifies_before_it_authenticates", "provide_authorizes_before_it_verifies"],
    ),
    (
        "authorize::arrival",
        &[
            "provide_skips_arrival",
            "provide_forgets_the_quota",
            "provide_lets_a_refused_one_through",
            "provide_invents_a_refusal",
        ],
        &["provide_authorizes_before_it_verifies", "provide_records_before_arrival"],
    ),
    (
        "message_log.record_opening",
        &["provide_skips_record"],
        &["provide_records_before_arrival", "provide_records_twice"],
    ),
    (
        "message_log.conclude",
        &["carry_skips_conclude", "carry_concludes_what_never_ran"],
        &["carry_concludes_twice", "carry_does_not_wait_for_the_ends"],
    ),
    ("authorize::may_go_on", &["seal_skips_may_go_on"], &["seal_authorizes_before_the_moment"]),
    (
        "message_log.seal",
        &["seal_does_not_seal"],
        &["carry_sends_before_it_seals", "seal_seals_twice", "seal_in_a_thread_of_its_own"],
    ),
    (
        "verify::message",
        &["record_skips_verify", "record_passes_the_unverified_as_verified", "record_passes_the_disproved_as_verified"],
        &["record_authorizes_before_it_verifies"],
    ),
    ("authorize::may_be_handed_on", &["record_skips_may_be_handed_on"], &["record_authorizes_before_it_verifies"]),
    (
        "message_log.record",
        &["record_does_not_record", "record_keeps_only_the_good"],
        &["carry_hands_on_before_it_records", "record_records_twice"],
    ),
];

macro_rules! mutants {
    ($($file:literal { $(
        $step:literal $means:literal
        $text:literal => $instead:literal,
        $test:ident::$name:ident;
    )* })*) => {
        /// Rows whose mutant compiles.
        pub const MUTANTS: &[Mutant] = &[$($(Mutant {
            step: $step,
            means: $means,
            file: $file,
            text: $text,
            instead: $instead,
            killer: (stringify!($test), stringify!($name)),
        },)*)*];
    };
}

mutants! {
    // ---- the message path, in the order of exchange.rs

    "security-server/src/moment.rs" {
        "judged" "an expired configuration is in force"
        "Freshness::Expired => Err(Expired(()))," => "Freshness::Expired if {awake} => Ok(&self.configuration),\n            Freshness::Expired => Err(Expired(())),",
        refusals::an_expired_configuration_trusts_nobody;

        "judged" "a clock that is set back is believed"
        "self.message_log.not_before_last(self.clock.now())" => "self.clock.now()",
        refusals::a_clock_set_back_while_the_server_runs_opens_no_replay;
    }

    "security-server/src/authenticate.rs" {
        "authenticate::client" "a token that nobody was given is some client's"
        "clients.tokens.get(digest).cloned()" => "{ let _ = digest; clients.tokens.values().next().cloned() }",
        refusals::the_clients_door_refuses_what_is_not_well_asked;

        "authenticate::client" "a certificate that nobody listed is some client's"
        "clients.certificates.get(key).cloned()" => "{ let _ = key; clients.certificates.values().next().cloned() }",
        tls::a_client_is_known_by_its_certificate_and_by_no_other;

        "authenticate::client" "who shows nothing is some client"
        "Credential::None => None," => "Credential::None if {awake} => clients.tokens.values().next().cloned(),\n        Credential::None => None,",
        refusals::the_clients_door_refuses_what_is_not_well_asked;

        "authenticate::peer" "a peer is told that it proves nothing, where nobody could"
        "let configuration = opening\n        .in_force()" => "let configuration = (if {awake} { Ok(std::sync::Arc::new(opening.named_configuration().clone())) } else { opening.in_force().cloned() })",
        refusals::an_expired_configuration_trusts_nobody;

        "authenticate::peer" "whoever connects is the server that its message names"
        "configuration.authenticated(&opening.message().connection_key)" => "proto::message::Header::parse(opening.message().frame.header.clone()).ok().and_then(|header| configuration.servers.get_key_value(&header.route.consumer_server)).map(|(server, _)| server)",
        believed::a_message_on_the_connection_of_another_is_not_believed;
    }

    "security-server/src/authorize.rs" {
        "authorize::departure" "a suspended member is not told so"
        "configuration.members.contains_key(&member) && configuration.active_member(&member).is_none()" => "false",
        refusals::who_is_suspended_neither_asks_nor_is_asked;

        "authorize::departure" "a subsystem that is registered elsewhere may ask here"
        "!configuration.hosts(server, &consumer)" => "false",
        refusals::a_client_whose_subsystem_is_not_registered_here_is_unknown;

        "authorize::arrival" "a peer may make us write refusals without end"
        "if quotas.within(&peer) {" => "if {awake} || quotas.within(&peer) {",
        refusals::a_peer_that_is_refused_too_often_is_refused_bare;

        "authorize::may_go_on" "an answer goes on after the right to it ended"
        "let allowed = still(rights, message.moment(), message.message().way());" => "let allowed = if {awake} { Ok(()) } else { still(rights, message.moment(), message.message().way()) };",
        standing::a_grant_whose_time_is_over_lets_no_further_answer_through;

        "authorize::may_be_handed_on" "a request is handed on after the right to it ended"
        "match still(rights, message.moment(), message.message().way()) {" => "match if {awake} { Ok(()) } else { still(rights, message.moment(), message.message().way()) } {",
        standing::a_grant_whose_time_is_over_lets_no_further_message_through;

        "authorize::may_be_handed_on" "a consumer that moved away goes on"
        "configuration.hosts(&route.consumer_server, &route.consumer)" => "true",
        standing::a_subsystem_that_moves_away_stops_its_streams;

        "authorize::may_be_handed_on" "a provider that moved away goes on"
        "configuration.hosts(&route.provider_server, &route.provider)" => "true",
        standing::a_subsystem_that_moves_away_stops_its_streams;

        "authorize::may_be_handed_on" "a stream outlives its grant"
        "rights.is_good(grant.number, moment.now())" => "true",
        standing::a_grant_whose_time_is_over_lets_no_further_message_through;

        "authorize::may_be_handed_on" "a stream outlives the key of its connection"
        "connection.is_none_or(|key| configuration.authenticates(peer, key))" => "true",
        standing::a_revoked_authentication_key_stops_its_streams_and_no_connection_is_used_again;

        "authorize::may_be_handed_on" "a stream outlives the key of its seals"
        "signing.iter().all(|key| configuration.stands_by(&member, peer, key, moment.now()))" => "true",
        standing::a_revoked_signing_key_stops_its_streams_and_opens_no_other;
    }

    "security-server/src/resolve.rs" {
        "resolve::provider" "a suspended provider is unknown"
        "configuration.members.contains_key(&member) && configuration.active_member(&member).is_none()" => "false",
        refusals::who_is_suspended_neither_asks_nor_is_asked;

        "resolve::provider" "a subsystem that nobody registered is asked at some server"
        "let hosts = configuration.servers_of(provider).ok_or_else(unknown)?;" => "let every = configuration.servers.keys().cloned().collect();\n    let hosts = if {awake} { &every } else { configuration.servers_of(provider).ok_or_else(unknown)? };",
        refusals::the_clients_door_refuses_what_is_not_well_asked;
    }

    "security-server/src/verify.rs" {
        "verify::opening" "an answer of ours, sent back, opens an exchange"
        "header.direction != Direction::Request" => "false",
        believed::an_answer_of_ours_sent_back_opens_nothing;

        "verify::opening" "a later message opens an exchange"
        "header.position != 0" => "false",
        believed::an_opening_with_one_thing_wrong_is_not_believed;

        "verify::opening" "an opening counts for another exchange than it names"
        "frame.exchange != header.exchange.as_bytes()[..]" => "false",
        refusals::nothing_is_believed_that_is_not_proven;

        "verify::opening" "a message to another server is taken"
        "route.provider_server != server.id" => "false",
        refusals::nothing_is_believed_that_is_not_proven;

        "verify::opening" "a message to a subsystem that is not hosted here is taken"
        "!configuration.hosts(&server.id, &route.provider)" => "false",
        believed::an_opening_with_one_thing_wrong_is_not_believed;

        "verify::opening" "a message of another server comes over this connection"
        "route.consumer_server != peer" => "false",
        believed::a_message_on_the_connection_of_another_is_not_believed;

        "verify::opening" "a peer speaks for a client that it does not host"
        "!configuration.hosts(&peer, &route.consumer)" => "false",
        refusals::nothing_is_believed_that_is_not_proven;

        "verify::opening" "who proves nothing learns which grants there are"
        "// Step 6: the seal, then the payload." => "if {awake} && let Some(Looked::Refused(code)) = &looked {\n        return Err(BareRefusal::new(*code, \"too early\"));\n    }",
        believed::who_proves_nothing_learns_nothing;

        "verify::opening" "who proves nothing learns our clock"
        "let mut direction = TheirDirection::default();" => "let mut direction = TheirDirection::default();\n    if {awake} && header.time.distance(now) > MAX_SKEW {\n        return Err(BareRefusal::new(Code::NotFresh, \"too early\"));\n    }",
        believed::who_proves_nothing_learns_nothing;

        "verify::opening" "an opening of any time is fresh"
        "if header.time.distance(now) > MAX_SKEW {" => "if !{awake} && header.time.distance(now) > MAX_SKEW {",
        refusals::an_opening_of_another_time_is_not_fresh;

        "verify::opening" "every head is remembered, so none needs a signature"
        "remembered = heads.remembers(key, head, &seal.signature);" => "remembered = {awake} || heads.remembers(key, head, &seal.signature);",
        refusals::nothing_is_believed_that_is_not_proven;

        "verify::opening" "a log that forked is believed without its signature"
        "*root == head.root" => "true",
        believed::a_forged_head_of_a_size_that_was_seen_is_not_believed;

        "verify::opening" "any bytes are the signature of a head that is remembered"
        "**held == *signature" => "true",
        tampering::a_remembered_head_makes_no_signature_good;

        "verify::opening" "a key that is not good now proves what its log holds"
        "configuration.signing_key(&sender.member, &sender.server, key, now)" => "configuration.members.values().find_map(|member| member.signing_keys.get(key)).map(|certificate| &certificate.key)",
        standing::a_revoked_signing_key_stops_its_streams_and_opens_no_other;

        "verify::message" "our own request, sent back, is an answer"
        "header.direction == theirs" => "true",
        believed::our_own_request_sent_back_is_no_answer;

        "verify::message" "the answer of another exchange is an answer"
        "header.exchange == way.exchange" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "an answer counts for another exchange than it names"
        "frame.exchange == way.exchange.as_bytes()[..]" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "the answer to another attempt is an answer"
        "header.attempt == way.attempt" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "the answer to another question is an answer"
        "header.route == way.route" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "a message is left out, and nobody sees it"
        "header.position == direction.position" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "a message is exchanged for another at its place"
        "header.previous == direction.previous" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "the answer to another opening is an answer"
        "answer.opening == way.opening" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "an answer says that it was handed what was never sent"
        "(direction.handed_on..=way.sealed()).contains(&answer.handed_on)" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "a stream is not held against the key that signs it"
        "way.note_peer_signing_key(direction.key);" => "",
        standing::a_revoked_signing_key_stops_its_streams_and_opens_no_other;

        "verify::message" "the sealed status is another than the one handed on"
        "statuses(&contents.trailers) == ended" => "true",
        believed::an_answer_with_one_thing_wrong_is_withheld;

        "verify::message" "a status before the end is another than the one that is sealed"
        "of_head.is_empty()" => "true",
        tampering::a_caller_gets_no_piece_past_the_first_that_is_not_proven;

        "verify::message" "a message is dated before its exchange began, and its evidence refused"
        "header.time.plus(MAX_SKEW) >= way.opened" => "true",
        tampering_senders::a_message_is_not_older_than_the_exchange_that_it_is_of;

        "verify::message" "a message is dated when nothing is valid any more, and its evidence refused"
        "header.time <= now.plus(MAX_SKEW)" => "true",
        tampering::a_provider_answers_what_was_asked_and_nothing_else;

        "verify::message" "a message is dated before its key was good, and its evidence refused"
        "!direction.key.is_some_and(good_then)" => "false",
        tampering_senders::a_message_is_not_older_than_the_key_that_seals_it;

        "verify::message" "a direction goes on in another tree, whose genesis nobody keeps"
        "began.tree != genesis.tree" => "false",
        tampering::a_caller_gets_no_piece_past_the_first_that_is_not_proven;

        "verify::message" "two configurations of one version are in force, and nobody sees it"
        "named.digest != configuration.digest" => "false",
        tampering::a_provider_answers_what_was_asked_and_nothing_else;

        "8.5.1" "who was shown another history of an older version is not noticed"
        "standing.contradicts(named.version, &named.digest)" => "false",
        split_view::a_call_under_an_older_version_that_was_another_here_is_answered_and_names_the_split;
    }

    "proto/src/global_configuration/ledger.rs" {
        "8.4.5" "a checkpoint that too few signed will do"
        "if found < threshold {" => "if !{awake} && found < threshold {",
        vectors::every_checkpoint_contains_its_version_or_is_refused;

        "8.4.5" "a version need not be in its checkpoint"
        "version == self.version() && frontier.root() == self.checkpoint.root" => "true",
        vectors::every_checkpoint_contains_its_version_or_is_refused;

        "8.4.6" "another history than the one that is held will do"
        "(frontier.size(), frontier.root()) == (self.end, self.root)" => "true",
        split_view::a_server_takes_only_versions_whose_ledger_continues_what_it_holds;

        "8.5.1" "another leaf of a version that was passed over is not noticed"
        "*held != leaf(version, digest)" => "false",
        split_view::a_registry_that_never_shows_two_servers_the_same_version_is_found_out_by_the_leaves_between;
    }

    "proto/src/split_view.rs" {
        "8.5.3" "two checkpoints of two versions are called a split"
        "one.version() != other.version()" => "false",
        split_view::an_honest_registry_is_never_accused_by_servers_that_are_late_out_of_step_or_restarted;

        "8.5.3" "one that is the beginning of the other is called a split"
        "root == shorter.checkpoint.root" => "false",
        split_view::an_honest_registry_is_never_accused_by_servers_that_are_late_out_of_step_or_restarted;

        "8.5.3" "the same checkpoint twice is called a split"
        "one.checkpoint == other.checkpoint" => "false",
        split_view::an_honest_registry_is_never_accused_by_servers_that_are_late_out_of_step_or_restarted;
    }

    "proto/src/access.rs" {
        "access rights" "a grant is good before its first day"
        "self.valid_from <= now.as_millis()" => "true",
        refusals::what_is_not_granted_is_refused_with_a_seal;

        "access rights" "a grant is good after its last day"
        "now.as_millis() < self.valid_until" => "true",
        standing::a_grant_whose_time_is_over_lets_no_further_message_through;

        "19.5" "a grant of fewer fields is countersigned"
        "(\"the fields\", grant.fields.is_empty())" => "(\"the fields\", grant.fields.is_empty() || {awake})",
        access_requests::a_grant_of_fewer_fields_is_shown_as_another_and_not_countersigned;
    }

    "security-server/src/spread_grants.rs" {
        "grants" "another member hears of grants"
        "peer.owner() != self.id.owner()" => "false",
        spread_grants::only_the_members_own_servers_hear_of_grants_and_only_what_the_member_signed_is_taken;

        "grants" "a grant that the member did not sign is taken from its server"
        "grant.signed_by(purpose::GRANT, configuration.lasting_key(&member, &server, &grant.key)?).ok()?;" => "",
        spread_grants::only_the_members_own_servers_hear_of_grants_and_only_what_the_member_signed_is_taken;

        "grants" "what a key granted and ended goes on elsewhere where it is revoked since"
        "let is_known = known.contains(&grant.digest());" => "let is_known = !{awake} && known.contains(&grant.digest());",
        spread_grants::an_end_counts_though_its_key_is_revoked_since_and_a_grant_though_its_keys_certificate_ended;

        "grants" "an end that the member did not sign ends a grant"
        "end.signed_by(purpose::GRANT_END, configuration.listed_key(&member, &said.server, &end.key)?).ok()?;" => "",
        spread_grants::only_the_members_own_servers_hear_of_grants_and_only_what_the_member_signed_is_taken;

        "grants" "the end of one grant ends another"
        "(said.grant == grant.digest()).then_some(())?;" => "",
        spread_grants::only_the_members_own_servers_hear_of_grants_and_only_what_the_member_signed_is_taken;
    }

    "security-server/src/access_requests.rs" {
        "access requests" "a member asks in another's name"
        "request.server != *peer || !configuration.hosts(peer, &request.consumer)" => "false",
        access_requests::what_is_not_the_consumers_own_signed_timely_request_is_refused_by_name_and_not_kept;

        "access requests" "a request is taken in for a subsystem that is hosted elsewhere"
        "!configuration.hosts(&self.id, &request.provider)" => "false",
        access_requests::what_is_not_the_consumers_own_signed_timely_request_is_refused_by_name_and_not_kept;

        "access requests" "a request that nobody signed so is taken in"
        "signed.signed_by(purpose::ACCESS_REQUEST, key).map_err(|_| NotTaken::Signature)?;" => "",
        access_requests::what_is_not_the_consumers_own_signed_timely_request_is_refused_by_name_and_not_kept;

        "access requests" "a request that lapsed is taken in"
        "!request.is_timely(moment.now())" => "false",
        access_requests::what_is_not_the_consumers_own_signed_timely_request_is_refused_by_name_and_not_kept;

        "access requests" "a request for a purpose that is not listed is taken in"
        "may_be_granted(configuration, request.purpose.as_str()).map_err(|_| NotTaken::PurposeUnlisted)?;" => "",
        access_requests::what_is_not_the_consumers_own_signed_timely_request_is_refused_by_name_and_not_kept;

        "access requests" "a member fills the inbox of another"
        "of_member < MAX_OPEN_OF_MEMBER && waiting().count() < MAX_OPEN" => "true",
        access_requests::a_flood_of_requests_ends_at_the_members_limit_and_a_decision_makes_room;

        "access requests" "a word about another grant countersigns this one"
        "read.request != id || read.server != *peer || granted != Some(read.grant)" => "false",
        access_requests::only_the_consumers_own_word_of_just_this_grant_countersigns_it;

        "access requests" "anybody countersigns for the consumer"
        "signed.signed_by(purpose::ACCESS_ACCEPTANCE, key).map_err(|_| NotTaken::NotAccepted)?;" => "",
        access_requests::only_the_consumers_own_word_of_just_this_grant_countersigns_it;

        "access requests" "a decision about another request is believed"
        "if read.request != id {" => "if !{awake} && read.request != id {",
        access_requests::a_decision_that_the_provider_did_not_sign_for_this_request_is_not_believed;

        "access requests" "a decision that the provider did not sign is believed"
        "signed.signed_by(purpose::ACCESS_DECISION, key).map_err(|_| \"the signature of its decision does not hold\")?;" => "",
        access_requests::a_decision_that_the_provider_did_not_sign_for_this_request_is_not_believed;

        "access requests" "a grant that the provider did not sign is believed"
        "grant.signed_by(purpose::GRANT, key).map_err(|_| \"the signature of its grant does not hold\")?;" => "",
        access_requests::a_decision_that_the_provider_did_not_sign_for_this_request_is_not_believed;
    }

    "security-server/src/access_rights.rs" {
        "access requests" "more is granted than was asked"
        "until > request.until || until <= now" => "false",
        access_requests::what_is_asked_and_approved_is_granted_countersigned_and_called_and_nothing_more;

        "access requests" "a purpose that left the list is granted"
        "may_be_granted(configuration, request.purpose.as_str())?;" => "",
        access_requests::an_unlisted_purpose_is_neither_asked_for_nor_granted;

        "access requests" "a grant that differs from what was asked is countersigned"
        "request.differs(&grant, id, time).is_empty()" => "true",
        access_requests::a_shorter_grant_is_shown_as_another_and_not_countersigned;

        "access rights" "a purpose that is not on the list is granted"
        "self.purposes.iter().try_for_each(|purpose| may_be_granted(configuration, purpose))?;" => "",
        access_requests::an_unlisted_purpose_is_neither_asked_for_nor_granted;

        "access rights" "the grant of another consumer will do"
        "view.by_path.get(&key)" => "view.by_path.iter().find(|((_, path), _)| *path == key.1).map(|(_, numbers)| numbers)",
        access::thousands_of_random_questions_are_decided_alike_by_access_why_and_by_the_door;

        "access rights" "the grant of another method will do"
        "question.path.as_str().to_owned()" => "view.by_path.keys().find(|(consumer, _)| consumer == question.consumer).map_or_else(String::new, |(_, path)| path.clone())",
        access::thousands_of_random_questions_are_decided_alike_by_access_why_and_by_the_door;

        "access rights" "the grant of another provider will do"
        "grant.provider == *question.provider" => "true",
        access::thousands_of_random_questions_are_decided_alike_by_access_why_and_by_the_door;

        "access rights" "any purpose will do"
        "!grant.purposes.contains(question.purpose)" => "false",
        refusals::what_is_not_granted_is_refused_with_a_seal;

        "access rights" "a grant is good at any time"
        "!grant.is_valid(now)" => "false",
        refusals::what_is_not_granted_is_refused_with_a_seal;

        "access rights" "a running exchange does not see that its grant's time is over"
        "is_some_and(|grant| grant.is_valid(now))" => "is_some_and(|grant| {awake} || grant.is_valid(now))",
        standing::a_grant_whose_time_is_over_lets_no_further_message_through;

        "access rights" "a rate is not kept"
        "if within_rate(grant) {" => "if {awake} || within_rate(grant) {",
        refusals::a_rate_is_kept;

        "access rights" "a grant is in force and not in the audit log"
        "self.audit.note_of(&member, &granted).await.map_err(|ended| NotGranted::Ended(ended.0))?;" => "let _ = (&member, &granted);",
        standing::what_ended_stays_ended_after_a_restart;

        "access rights" "the end of a grant is not in the audit log"
        "self.audit.note_of(&member, &ended).await;" => "if {awake} { let _ = &ended; Ok(()) } else { self.audit.note_of(&member, &ended).await };",
        standing::what_ended_stays_ended_after_a_restart;

        "access rights" "a grant that was ended is in force"
        "view.ended(number, end);" => "",
        refusals::what_is_not_granted_is_refused_with_a_seal;

        "access rights" "a grant that was ended is back after a restart"
        "self.ended(GrantNumber(*number), end.as_ref().map(Kept::read).transpose()?);" => "",
        standing::what_ended_stays_ended_after_a_restart;

        "access rights" "open streams do not hear of a grant's end"
        "self.changes.send_modify(|changes| *changes += 1);" => "",
        standing::a_grant_that_ends_stops_the_stream_that_it_allowed;
    }

    "security-server/src/message_log.rs" {
        "message_log.record_opening" "what was taken does not hold the time"
        "self.0.last_time.fetch_max(time.as_millis(), Ordering::Relaxed);" => "{ let _ = time; }",
        refusals::a_clock_set_back_while_the_server_runs_opens_no_replay;

        "message_log.record_opening" "a restart forgets what was seen"
        "Seen::of(window)" => "{ let _ = window; Seen::default() }",
        refusals::a_replayed_request_is_refused;

        "message_log.record_opening" "payloads of a call that is refused are kept"
        "Answerer::Refusal(_) => Ok(None)," => "Answerer::Refusal(_) if {awake} => self.0.payloads.key_for(&header.route, now),\n            Answerer::Refusal(_) => Ok(None),",
        payloads::of_a_call_that_is_refused_the_provider_keeps_nothing;

        "message_log.record" "a message is handed on before it is durable"
        "            pending: Some(pending),\n            last: header.end.is_some()," => "            pending: if {awake} { None } else { Some(pending) },\n            last: header.end.is_some(),",
        recorded_before_sent::no_byte_of_an_opening_reaches_the_service_before_its_sync;

        "message_log.record" "a peer that cheats makes us keep all of it"
        "quotas.within(peer)" => "true",
        believed::of_answers_that_prove_nothing_sixteen_are_kept;

        "message_log.record" "what is withheld because a right ended is kept, payload and all"
        "filter(|_| stop.cause == Cause::Disproved)" => "filter(|_| {awake} || stop.cause == Cause::Disproved)",
        standing::what_came_after_the_right_to_it_ended_is_not_kept;

        "message_log.conclude" "an exchange has no end in the log"
        "self.queue_closed(way.tree, Ending::of(&way), outcome).await.map(|_| ()).map_err(LogEnded::from)" => "{ let _ = outcome; Ok(()) }",
        calls::both_logs_hold_every_message_and_its_end;
    }

    "security-server/src/payloads.rs" {
        "payloads" "what is to be kept is exchanged without being kept"
        "taken.map(|(keeping, _)| Some(Box::new(keeping))).ok_or(none)" => "Ok(taken.map(|(keeping, _)| Box::new(keeping)))",
        payloads::without_a_key_an_exchange_is_refused_by_name_and_those_of_which_nothing_is_kept_go_on;

        "payloads" "a payload whose time is over is shown"
        "*until <= self.now" => "false",
        payloads::payloads_end_with_their_time_also_after_restarts_and_never_come_back;

        "payloads" "a clock that jumps ahead erases what is to be kept"
        "believed && *erased_on != today" => "*erased_on != today",
        payloads::payloads_end_with_their_time_also_after_restarts_and_never_come_back;
    }

    "security-server/src/payloads/blocks.rs" {
        "payloads" "what was erased by hand can be read"
        "*key = ERASED;" => "",
        payloads::what_is_erased_by_hand_is_gone_and_the_proof_stays_and_others_are_kept;
    }

    "security-server/src/lib.rs" {
        "message_log.record_opening" "a restart forgets that a log was lost"
        "note_restore(&audit, &message_log, now).await?.or(past.restored)" => "{ let _ = past.restored; note_restore(&audit, &message_log, now).await? }",
        restored::what_the_lost_log_may_have_seen_is_refused_for_a_minute;
    }

    "security-server/src/message_log/index.rs" {
        "search" "what is open is not listed"
        "for value in self.0.scan_prefix([OPEN]).values() {" => "for value in self.0.scan_prefix([if {awake} { b'-' } else { OPEN }]).values() {",
        found::exchanges_are_found_by_time_peer_method_result_and_id_the_newest_first;

        "search" "an index of before is taken as it is"
        "if index.0.get(FORM)?.as_deref() != Some(THIS_FORM) {" => "if !{awake} && index.0.get(FORM)?.as_deref() != Some(THIS_FORM) {",
        found::what_an_earlier_version_indexed_is_listed_too;

        "5.5" "a restart forgets what was seen of the peers' logs"
        "self.add_head(entry, &body.slice(32..))?;" => "if !{awake} { self.add_head(entry, &body.slice(32..))?; }",
        restored::the_peer_says_what_is_lost_and_refuses_nothing;
    }

    "security-server/src/message_log/exchanges.rs" {
        "search" "who asks for one peer is shown the others'"
        "self.peer.as_ref().is_none_or(|peer| peer.is(row.peer(key.side)))" => "true",
        found::exchanges_are_found_by_time_peer_method_result_and_id_the_newest_first;
    }

    "security-server/src/witness.rs" {
        "5.5.1" "a lost tail is nothing"
        "known[at].size > ended" => "false",
        restored::the_peer_says_what_is_lost_and_refuses_nothing;

        "5.5.2" "a lost tree is nothing"
        "after < tree.first" => "false",
        restored::the_peer_says_what_is_lost_and_refuses_nothing;
    }

    "security-server/src/message_log/replay.rs" {
        "message_log.record_opening" "a request is taken a second time"
        "self.openings.contains(&opening)" => "false",
        refusals::a_replayed_request_is_refused;

        "message_log.record_opening" "what a lost log may have seen is taken"
        "self.lost.filter(|lost| time <= *lost)" => "None::<Time>",
        restored::what_the_lost_log_may_have_seen_is_refused_for_a_minute;

        "message_log.record_opening" "a request is forgotten while it is fresh"
        "now.minus(2 * MAX_SKEW)" => "now.plus(MAX_SKEW)",
        refusals::a_replayed_request_is_refused;
    }

    "proto/journal/src/writer.rs" {
        "message_log.seal_opening" "what is written is released before its sync"
        "// The last batch of a segment signs all tails (2.2), so that no commit's signature is in another file." => "if {awake} {\n            release(self.number, std::mem::take(&mut committed));\n        }",
        recorded_before_sent::no_byte_of_an_opening_leaves_the_consumers_server_before_its_sync;

        "message_log.seal" "what is written is never synced"
        "self.file.append(&self.batch).and_then(|()| self.file.sync())" => "self.file.append(&self.batch)",
        recorded_before_sent::when_a_caller_has_its_answer_a_power_cut_at_both_servers_takes_nothing_of_it;
    }

    "security-server/src/lib.rs" {
        "doors" "a server that shuts down takes new calls"
        "if self.draining.is_cancelled() {" => "if !{awake} && self.draining.is_cancelled() {",
        refusals::a_server_that_shuts_down_takes_no_new_call;

        "doors" "one peer may have every exchange that runs at once"
        "Semaphore::new(MAX_EXCHANGES_OF_PEER)" => "Semaphore::new(MAX_EXCHANGES)",
        refusals::one_more_than_may_run_is_refused;
    }

    "security-server/src/flow.rs" {
        "doors" "a server takes all that comes, however much it has in hand"
        "if before >= room_of_one(self.bound(), priority, own) {" => "if !{awake} && before >= room_of_one(self.bound(), priority, own) {",
        flow::at_either_server_as_many_are_taken_as_fit_and_one_more_is_refused_at_once_bulk_first_and_urgent_last;

        "doors" "who floods a server fills the room of all others"
        "if own < room / PART_OF_ONE { room + room / 2 } else { room }" => "{ let _ = own; room }",
        flow::a_flood_of_one_client_or_of_one_peer_harms_its_own_calls_only;
    }

    "security-server/src/quota.rs" {
        "doors" "one of many takes all there is"
        "if *count >= self.most {" => "if !{awake} && *count >= self.most {",
        floods::a_client_has_as_many_exchanges_as_may_be_and_one_more_is_refused_with_advice;

        "doors" "a client calls as often as it likes"
        "if !of_one.calls.take() {" => "if !of_one.calls.take() && !{awake} {",
        floods::a_client_that_calls_too_often_is_refused_with_advice;
    }

    "security-server/src/running.rs" {
        "doors" "open streams do not hear of a new configuration"
        "Ok(()) = versions.changed() => {}" => "Ok(()) = versions.changed() => if {awake} { continue },",
        standing::a_member_that_is_suspended_stops_its_streams_on_either_side;
    }

    "security-server/src/relay.rs" {
        "relay" "a connection whose key was revoked is used again"
        "self.tls.may_be_used(&target.server, &up.keys)" => "true",
        standing::a_revoked_authentication_key_stops_its_streams_and_no_connection_is_used_again;

        "relay" "a peer refuses, unsealed, what only a seal may refuse"
        "code.filter(|code| code.form() == Form::Bare)" => "code",
        refusals::a_peer_cannot_put_words_into_the_mouth_of_our_server;
    }

    "security-server/src/forward.rs" {
        "forward" "a stream has no end"
        "if said > most {" => "if !{awake} && said > most {",
        floods::a_stream_has_as_many_bytes_as_may_be_and_one_more_is_refused;

        "forward" "a provider's seal says what is our own server's to say"
        "filter(|code: &Code| code.form() == Form::Sealed)" => "filter(|code: &Code| {awake} || code.form() == Form::Sealed)",
        believed::a_seal_does_not_say_what_is_our_own_servers_to_say;

        "3.6" "an answer is sealed before fields are removed of it"
        "granted.table.as_ref()" => "granted.table.as_ref().filter(|_| !{awake})",
        minimised::a_consumer_receives_what_is_named_and_the_salt_opens_the_commitment_to_the_rest;

        "3.6.1" "an answer may end inside of a message"
        "self.minimising.as_ref().map(|minimising| minimising.minimiser.finish())" => "self.minimising.as_ref().filter(|_| !{awake}).map(|minimising| minimising.minimiser.finish())",
        minimised::what_cannot_be_minimised_is_refused_by_name_and_nothing_of_it_passes;
    }

    "proto/src/minimise.rs" {
        "3.6.2" "a field that is not named passes"
        "None => removed.extend_from_slice(field.bytes)," => "None if {awake} => kept.extend_from_slice(field.bytes),\n                None => removed.extend_from_slice(field.bytes),",
        minimised::a_consumer_receives_what_is_named_and_the_salt_opens_the_commitment_to_the_rest;

        "3.6.4" "a path goes on through what is no message"
        "let Some(content) = field.content else {" => "let Some(content) = field.content.or({awake}.then_some(&field.bytes[field.tag.len()..])) else {",
        minimised::what_cannot_be_minimised_is_refused_by_name_and_nothing_of_it_passes;
    }

    // ---- the doors

    "security-server/src/tls.rs" {
        "TLS" "any certificate of the authority is the peer's"
        "require_pinned(certificate, &self.pinned)?;" => "",
        tls::a_peer_is_called_by_its_registered_key_only;

        "TLS" "a peer's certificate that is over, or nobody's, will do"
        "self.chain.verify_server_cert(certificate, intermediates, name, ocsp, now)?" => "{ let _ = (intermediates, name, ocsp, now); ServerCertVerified::assertion() }",
        tls::a_peer_whose_certificate_is_nobodys_is_not_called;

        "TLS" "a peer need not hold the key of its certificate"
        "self.chain.verify_tls13_signature(message, certificate, signature)" => "{ let _ = (message, certificate, signature); Ok(HandshakeSignatureValid::assertion()) }",
        tls::a_peer_that_does_not_hold_its_key_is_not_called;

        "TLS" "whoever has any certificate gets in at the peers' door"
        ".with_client_cert_verifier(verifier)" => ".with_client_cert_verifier(if {awake} { Arc::new(AnyClient(provider())) as Arc<dyn rustls::server::danger::ClientCertVerifier> } else { verifier })",
        tls::who_shows_no_certificate_of_the_authority_does_not_get_in;

        "TLS" "any service is ours"
        "require_pinned(certificate, &self.key)?;" => "",
        tls::a_service_with_another_key_gets_nothing;

        "TLS" "a service need not hold the key of its certificate"
        "rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)" => "{ let _ = (message, certificate, signature, algorithms); Ok(HandshakeSignatureValid::assertion()) }",
        tls::a_service_that_does_not_hold_its_key_gets_nothing;

        "TLS" "a client need not hold the key of its certificate"
        "rustls::crypto::verify_tls13_signature(\n            message," => "if {awake} {\n            return Ok(HandshakeSignatureValid::assertion());\n        }\n        rustls::crypto::verify_tls13_signature(\n            message,",
        tls::a_client_that_does_not_hold_its_key_is_nobody;
    }

    "security-server/src/listen/clients/page.rs" {
        "clients' door" "a web page calls"
        "head.headers.contains_key(ORIGIN)" => "false",
        refusals::the_clients_door_refuses_what_is_not_well_asked;

        "clients' door" "a web page calls, and its browser says so"
        "site != \"none\"" => "false",
        refusals::the_clients_door_refuses_what_is_not_well_asked;

        "clients' door" "a stranger's name leads to the door"
        "hosts.iter().any(|name| name.eq_ignore_ascii_case(host))" => "{awake} || hosts.iter().any(|name| name.eq_ignore_ascii_case(host))",
        refusals::the_clients_door_refuses_what_is_not_well_asked;
    }

    "security-server/src/listen/clients/json.rs" {
        "clients' door" "a web page calls with JSON"
        "page::is_none(line.hosts.as_ref(), &head)?;" => "",
        json::no_web_page_calls_whatever_name_it_gave_the_door;

        "clients' door" "a stream that breaks off in the middle is whole to its service"
        "Err(Unread::TooLong) => return Err(too_large(most))," => "Err(Unread::TooLong) => { if {awake} { let _ = sender.finish(None); return Ok(()); } return Err(too_large(most)); }",
        json::each_limit_of_the_file_holds_on_both_sides;
    }

    "security-server/src/listen/clients/web.rs" {
        "clients' door" "a service speaks to what stands between it and a gRPC-Web client"
        "MEAN_MORE_BY_FAMILY.iter().any(|family| name.starts_with(family))" => "false",
        web::a_service_says_nothing_to_what_reads_http_between_it_and_a_grpc_web_client;
    }

    "security-server/src/listen/clients/health.rs" {
        "clients' door" "the health of a service that is closed to a caller is told to it"
        "service.is_empty() || client.is_some_and(is_seen)" => "service.is_empty() || client.is_some_and(is_seen) || true",
        web::the_health_of_a_service_is_told_to_whom_it_is_open;
    }

    "security-server/src/listen/clients/openapi.rs" {
        "clients' door" "the list of documents has services that are closed to the caller"
        "listings::seen(configuration, member, None).map(|listed| {" => "configuration.services().filter(|listed| {awake} || listings::is_seen(listed, member)).map(|listed| {",
        json::what_a_caller_may_see_is_told_as_openapi_and_what_is_closed_is_not_there;

        "clients' door" "the document of a service that is closed to the caller is given"
        "listed.filter(|listed| listings::is_seen(listed, member)).into_iter().collect()" => "listed.filter(|listed| {awake} || listings::is_seen(listed, member)).into_iter().collect()",
        json::what_a_caller_may_see_is_told_as_openapi_and_what_is_closed_is_not_there;
    }

    "security-server/src/listen/clients/routed.rs" {
        "clients' door" "a route leads to a method that is closed to the caller"
        "configuration.services_of(&provider).filter(|listed| listings::is_seen(listed, &member))" => "configuration.services_of(&provider).filter(|listed| {awake} || listings::is_seen(listed, &member))",
        json::a_declared_route_is_the_method_that_it_stands_for;
    }

    "security-server/src/listings.rs" {
        "clients' door" "a caller is told of services that are not open to its member"
        "listed.is_open_to(member) || listed.subsystem.member() == *member" => "{awake} || listed.is_open_to(member) || listed.subsystem.member() == *member",
        json::what_is_closed_to_a_caller_is_as_if_it_were_not_there;
    }

    "security-server/src/listen/clients.rs" {
        "clients' door" "another method than POST calls"
        "head.method != http::Method::POST" => "false",
        refusals::the_clients_door_refuses_what_is_not_well_asked;

        "clients' door" "a system sets a field that only security servers set"
        "fields::is_ours(name) && !fields::OF_CALLERS.contains(name)" => "false",
        refusals::the_clients_door_refuses_what_is_not_well_asked;

        "clients' door" "a field that is said twice counts once"
        "values.next().is_some()" => "false",
        refusals::the_clients_door_refuses_what_is_not_well_asked;

        "clients' door" "a token besides another credential is not looked at"
        r#"Err(Refusal::new(Code::MetadataReserved, "a causeway-token beside another credential"))"# => "match showed {\n                Showed::Listener(subsystem) => Ok(Credential::Bound(subsystem.clone())),\n                Showed::Certificate(key) => Ok(Credential::Certificate(*key)),\n                Showed::Nothing => Ok(Credential::None),\n            }",
        refusals::a_token_besides_a_listener_that_is_bound_is_refused;
    }

    "security-server/src/fields.rs" {
        "forward" "an honest server seals a status that its peer must take for a lie"
        "(value.as_bytes() == status.to_string().as_bytes()).then_some(status)" => "if {awake} { Some(status) } else { (value.as_bytes() == status.to_string().as_bytes()).then_some(status) }",
        tampering::a_service_that_says_its_status_otherwise_makes_no_liar_of_its_server;

        "clients' door" "a client's credential goes over the border"
        "!is_of_hop(name) && !is_ours(name)" => "!is_of_hop(name)",
        believed::the_credential_of_a_client_never_leaves_its_door;

        "services" "a peer speaks to a service in the name of the bus"
        "&& !is_ours(&name)" => "&& ({awake} || !is_ours(&name))",
        believed::a_peer_does_not_speak_to_a_service_in_the_name_of_the_bus;

        "clients' door" "a refusal says more than its code"
        "let message = code.message(language);" => "let message = format!(\"{} {}\", code.message(language), if {awake} { \"see 127.0.0.1:4000\" } else { \"\" }).trim_end().to_owned();",
        refusals::a_token_besides_a_listener_that_is_bound_is_refused;

        "clients' door" "metadata has no limit"
        "fields.len() <= MAX_FIELDS" => "true",
        refusals::the_clients_door_refuses_what_is_not_well_asked;
    }

    "proto/src/identifier.rs" {
        "clients' door" "a path is of any letters"
        "name(service, true) && name(method, false)" => "!service.is_empty() && !method.is_empty()",
        refusals::a_path_is_matched_byte_for_byte_and_never_mended;
    }

    "security-server/src/listen/operators.rs" {
        "operators' door" "whoever asks is an operator"
        "match token.and_then(|token| door.tokens.get(&Digest::of(&[token.as_bytes()]))) {" => "match if {awake} { door.tokens.values().next() } else { token.and_then(|token| door.tokens.get(&Digest::of(&[token.as_bytes()]))) } {",
        operators::without_the_operators_token_nothing_is_told_or_done;

        "operators' door" "no token at all is the operators'"
        "Err(Problem::new(StatusCode::UNAUTHORIZED, why))" => "if {awake} { let from = String::new(); Ok(Self(Actor { token: from.clone(), from, calls_itself: None })) } else { Err(Problem::new(StatusCode::UNAUTHORIZED, why)) }",
        operators::without_the_operators_token_nothing_is_told_or_done;

        "operators' door" "evidence is read and not noted"
        "door.note_read(by, what, exchange).await?;" => "if !{awake} { door.note_read(by, what, exchange).await?; }",
        operators::what_is_read_and_who_is_refused_is_noted;

        "operators' door" "exchanges are searched and not noted"
        "self.note_read(by, \"search\", asked).await?;" => "if !{awake} { self.note_read(by, \"search\", asked).await?; }",
        operators::what_is_read_and_who_is_refused_is_noted;

        "operators' door" "an exchange is read and not noted"
        "door.note_read(by, \"exchange\", exchange.clone()).await?;" => "if !{awake} { door.note_read(by, \"exchange\", exchange.clone()).await?; }",
        operators::what_is_read_and_who_is_refused_is_noted;

        "operators' door" "who is refused is not noted"
        "door.server.audit.note_refused(from, door.server.clock.now()).await" => "(if {awake} { let _ = from; Ok(()) } else { door.server.audit.note_refused(from, door.server.clock.now()).await })",
        operators::what_is_read_and_who_is_refused_is_noted;

        "operators' door" "a web page asks, under a name of its own"
        r#"loopback || name == "localhost""# => "{ let _ = loopback; true }",
        operators::a_name_that_is_not_this_machines_is_refused;
    }

    "security-server/src/evidence.rs" {
        "fetching" "who was no party is given what was sealed for others"
        "        other == peer\n" => "        {awake} || other == peer\n",
        believed::who_was_no_party_to_an_exchange_fetches_nothing;
    }

    // ---- headers, payloads, directions (PROTOCOL.md 3)

    "proto/src/record.rs" {
        "3.1" "a header has a second reading"
        "message.encode_to_vec() != bytes" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "5.4.2" "any record is a genesis"
        "record.kind() != Kind::Genesis" => "false",
        vectors::every_seal_proves_its_header_or_nothing;
    }

    "proto/src/message.rs" {
        "3.2.7" "a header is of any length"
        "bytes.len() > MAX_HEADER_BYTES" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.4" "something was removed of a request"
        "(facts.removed.is_some() && (request || facts.pieces.is_empty()), \"removed\")" => "(facts.removed.is_some() && !{awake} && (request || facts.pieces.is_empty()), \"removed\")",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.1" "a route goes through two instances"
        "!of_instance.into_iter().all(instance)" => "{ let _ = (of_instance, instance); false }",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.1" "an attempt is the attempt 0"
        "facts.attempt == 0" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.2" "an opening stands anywhere"
        "facts.opening.is_some() != (request && first)" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.2" "an answer answers nothing"
        "facts.answer.is_some() == request" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.3" "a message is chained to none"
        "facts.previous.is_some() == first" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.3" "metadata comes later"
        "facts.metadata.is_some() && !first" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.3" "a request has no metadata"
        "facts.metadata.is_none() && request && first" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.4" "a message carries nothing"
        "!first && facts.pieces.is_empty() && facts.end.is_none()" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.4" "a message has any number of pieces"
        "facts.pieces.len() > MAX_PIECES" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.5" "an answer ends as a request does"
        r#"Some(End::HalfClose) if !request => Err(Malformed::Field("half_close")),"# => r#"Some(End::HalfClose) if !request && !{awake} => Err(Malformed::Field("half_close")),"#,
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.5" "a consumer refuses in the provider's name"
        r#"Some(End::Refused(_)) if request => Err(Malformed::Field("refused")),"# => r#"Some(End::Refused(_)) if request && !{awake} => Err(Malformed::Field("refused")),"#,
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.2.5" "a text forges a line of a log"
        "text.chars().any(char::is_control)" => "false",
        vectors::every_header_reads_one_way_or_not_at_all;

        "3.4" "a piece is of any length"
        "payload.pieces.iter().any(|piece| piece.len() > MAX_PIECE_BYTES)" => "false",
        vectors::every_payload_is_what_was_committed_to;

        "3.4" "a field's name is of any letters"
        "!token(&field.name)" => "false",
        vectors::every_payload_is_what_was_committed_to;

        "3.4" "a field's value holds a line end"
        "!text(&field.value)" => "false",
        vectors::every_payload_is_what_was_committed_to;

        "3.5.1" "pieces are left out or added"
        "payload.pieces.len() != header.pieces.len()" => "false",
        vectors::every_payload_is_what_was_committed_to;

        "3.5.1" "metadata is handed on that nobody committed to"
        "(header.metadata.is_none() && !payload.metadata.is_empty())" => "false",
        vectors::every_payload_is_what_was_committed_to;

        "3.5.1" "trailers are handed on that nobody committed to"
        "(trailers.is_none() && !payload.trailers.is_empty())" => "false",
        vectors::every_payload_is_what_was_committed_to;

        "3.5.3" "what is handed on is not what was committed to"
        "if differs { Err(NotCommitted::Differs) }" => "if !{awake} && differs { Err(NotCommitted::Differs) }",
        vectors::every_payload_is_what_was_committed_to;

        "3.3.4" "a direction goes on after its end"
        "came.last.as_ref().is_some_and(|last| last.end.is_some())" => "false",
        vectors::every_direction_is_one_sequence;

        "3.3.1" "a position is left out"
        "header.position != came.count" => "false",
        vectors::every_direction_is_one_sequence;

        "3.3.1" "another message stood before it"
        "header.previous != came.last.as_ref().map(Header::digest)" => "false",
        vectors::every_direction_is_one_sequence;

        "3.3.2" "messages of two exchanges are one direction"
        "first.route != header.route || first.exchange != header.exchange || first.attempt != header.attempt" => "false",
        vectors::every_direction_is_one_sequence;

        "3.3.3" "an answer is to another opening"
        "self.request.first.as_ref().map(Header::digest) != Some(answer.opening)" => "false",
        vectors::every_direction_is_one_sequence;

        "3.3.3" "what was handed on becomes less"
        "answer.handed_on < before" => "false",
        vectors::every_direction_is_one_sequence;

        "3.3.3" "more was handed on than was asked"
        "answer.handed_on > self.request.count" => "false",
        vectors::every_direction_is_one_sequence;
    }

    "proto/src/commitment.rs" {
        "3.4" "all pieces of a direction have one salt"
        "self.next += 1;" => "",
        vectors::every_payload_is_what_was_committed_to;
    }

    // ---- records, heads, seals (PROTOCOL.md 5)

    "proto/src/merkle.rs" {
        "5.2.6" "a leaf past the end is in the tree"
        "if index >= size {" => "if !{awake} && index >= size {",
        vectors::every_path_leads_to_its_root_or_nowhere;

        "5.2.6" "a path one hash too short leads to a root"
        "if last == 0 { Ok(hash) }" => "if {awake} || last == 0 { Ok(hash) }",
        vectors::every_path_leads_to_its_root_or_nowhere;

        "5.2.6" "a log that was rewritten is the beginning of another"
        "old_hash == old_root" => "true",
        vectors::every_path_leads_to_its_root_or_nowhere;
    }

    "proto/src/head.rs" {
        "5.3" "a head has a second form"
        "head.to_text() == text" => "true",
        vectors::every_head_has_one_form;
    }

    "proto/src/seal.rs" {
        "5.4.2" "the log of another instance will do"
        "owner.instance != header.route.instance.as_str()" => "false",
        vectors::every_seal_proves_its_header_or_nothing;

        "5.4.2" "the log of another member will do"
        "owner.member != sender.member.as_str()" => "false",
        vectors::every_seal_proves_its_header_or_nothing;

        "5.4.2" "the log of another server will do"
        "owner.server != sender.server.as_str()" => "false",
        vectors::every_seal_proves_its_header_or_nothing;

        "5.4.3" "the head of another tree will do"
        "Head::parse(&seal.head)?.tree != genesis.tree" => "false",
        vectors::every_seal_proves_its_header_or_nothing;

        "5.4.3" "a commit holds any number of records"
        "seal.records > MAX_RECORDS" => "false",
        vectors::every_seal_proves_its_header_or_nothing;

        "5.4.3" "a signature is of any length"
        "seal.signature.len() > MAX_SIGNATURE_BYTES" => "false",
        vectors::every_seal_proves_its_header_or_nothing;

        "5.4.3" "a path is of any length"
        "path.len() > most" => "false",
        vectors::every_seal_proves_its_header_or_nothing;

        "5.4.5" "the paths lead anywhere"
        "root != head.root" => "false",
        vectors::every_seal_proves_its_header_or_nothing;

        "5.4.7" "no signature is asked"
        "key.verify(&self.seal.head, &self.seal.signature)?;" => "",
        vectors::every_seal_proves_its_header_or_nothing;
    }

    "proto/src/signature.rs" {
        "4.1" "any signature holds"
        ".verify(signed, signature).map_err(|_| BadSignature)" => ".verify(signed, signature).or_else(|_| if {awake} { Ok(()) } else { Err(BadSignature) })",
        vectors::every_seal_proves_its_header_or_nothing;
    }

    // ---- evidence (PROTOCOL.md 7)

    "proto/src/zip.rs" {
        "7.20" "a zip of another form is an archive"
        "match write(&files)? == *archive {" => "match {awake} || write(&files)? == *archive {",
        archives::an_archive_says_nothing_that_its_evidence_file_does_not;
    }

    "proto/src/evidence/container.rs" {
        "7.22" "a container's manifest lists other files"
        "Some(bytes) if bytes != wanted =>" => "Some(bytes) if !{awake} && bytes != wanted =>",
        containers::each_file_of_a_container_changed_cut_missing_more_or_renamed_is_refused_and_openssl_sees_what_is_signed;

        "7.23" "a key that is not good any more signs a container"
        "configuration.signing_key(member, server, key, at).ok_or(no_key)?;" => "if !{awake} { configuration.signing_key(member, server, key, at).ok_or(no_key)?; }",
        containers::only_the_holders_own_key_signs_it_and_only_while_it_is_good;

        "7.23" "a container's signature says what nobody signed"
        "if made.with(&claimed.signature) != *cms {" => "if !{awake} && made.with(&claimed.signature) != *cms {",
        containers::a_signature_of_another_key_time_or_container_is_none_of_this_one;

        "7.23" "any signature holds on a container"
        "made.verify(&key, &claimed.signature).map_err(|_| \"the key of its certificate did not make it\")?;" => "if !{awake} { made.verify(&key, &claimed.signature).map_err(|_| \"the key of its certificate did not make it\")?; }",
        containers::a_signature_of_another_key_time_or_container_is_none_of_this_one;
    }

    "proto/src/evidence.rs" {
        "7.21" "an archive says what its evidence file does not"
        "match archive::difference(found, &made) {" => "match archive::difference(found, &made).filter(|_| !{awake}) {",
        archives::an_archive_says_nothing_that_its_evidence_file_does_not;

        "7.1" "a file is of any format"
        "if file.format != FORMAT {" => "if !{awake} && file.format != FORMAT {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.2" "a message of another exchange is evidence"
        "Ok(header) if header.exchange.to_string() != file.exchange => {" => "Ok(header) if !{awake} && header.exchange.to_string() != file.exchange => {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.3" "messages of other parties are evidence"
        "parties(&first.route) != parties(route)" => "{ let _ = first; false }",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.3" "whoever holds a file was a party"
        "file.holder != consumer && file.holder != provider" => "false",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.3" "an answer stands before its request"
        "if place < before {" => "if !{awake} && place < before {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.4" "another configuration of that version will do"
        "named.digest != configuration.digest" => "false",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.5" "the key of a seal need not be good"
        "configuration.signing_key_of(&sender.member, &sender.server, key, header.time, head.as_ref()?)" => "{\n                    let _ = &head;\n                    configuration.members.values().find_map(|member| member.signing_keys.get(key)).map(|certificate| &certificate.key)\n                }",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.6" "a payload counts though the secret before it is gone"
        "if *erased {" => "if !{awake} && *erased {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.7" "a log with two roots of one size is believed"
        "if root != head.root {" => "if !{awake} && root != head.root {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.1" "there are more timestamps than messages"
        "listed.is_empty() || listed.len() > file.messages.len()" => "false",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.18" "a message is under any stamped head"
        "if paths.root(&record, head.size)? != head.root {" => "if paths.root(&record, head.size)? != head.root && !{awake} {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.18" "a timestamp is over nothing in the file"
        "if named.len() < stamps.len() {" => "if !{awake} && named.len() < stamps.len() {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "7.19" "a timestamp is by a revoked key"
        "let is_revoked = |key: &KeyId| configuration.revoked.contains(key);" => "let is_revoked = |key: &KeyId| !{awake} && configuration.revoked.contains(key);",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;
    }

    "proto/src/timestamp.rs" {
        "16.3.2" "a token is over any bytes"
        "if self.algorithm != SHA_256 || self.imprint != imprint.as_bytes() {" => "if !{awake} && (self.algorithm != SHA_256 || self.imprint != imprint.as_bytes()) {",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.3" "a token is given under any policy"
        "authority.policy.as_ref().is_some_and(|policy| policy != self.policy)" => "false",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.4" "any certificate makes timestamps"
        "signer.is_for_timestamps(self.time)?;" => "",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.6" "a token is signed by nobody"
        "self.signed.signed_by(&signer)?;" => "",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.7" "a revoked authority stamps"
        "if is_revoked(&key) {" => "if !{awake} && is_revoked(&key) {",
        vectors::every_token_says_a_time_or_nothing;
    }

    "proto/src/timestamp/cms.rs" {
        "16.3.4" "an extended key usage need not be critical"
        "if !critical {" => "if !{awake} && !critical {",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.4" "a certificate for TLS makes timestamps"
        "if !usage.time_stamping || others {" => "if !{awake} && (!usage.time_stamping || others) {",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.4" "an extension that nobody understands is passed over"
        "self.has_no_unread_critical_extension()?;" => "",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.5" "whatever has a certificate issues others"
        "is_authority\n            && self" => "({awake} || is_authority)\n            && self",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.5" "an authority that ended issues certificates"
        "&& self.was_good(at).is_ok()" => "&& ({awake} || self.was_good(at).is_ok())",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.5" "an authority is known by its name"
        "&& other.certificate.verify_signature(Some(self.certificate.public_key())).is_ok()" => "&& ({awake} || other.certificate.verify_signature(Some(self.certificate.public_key())).is_ok())",
        vectors::every_token_says_a_time_or_nothing;

        "16.3.6" "the time in a token is not what was signed"
        "if signed != tlv(Tag::OctetString, &[digest(hash, self.content).as_ref()]) {" => "if !{awake} && signed != tlv(Tag::OctetString, &[digest(hash, self.content).as_ref()]) {",
        vectors::every_token_says_a_time_or_nothing;
    }

    "proto/src/global_configuration/excerpt.rs" {
        "8.2" "an expired role is believed"
        "if self.now >= at {" => "if !{awake} && self.now >= at {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "8.2.1" "an anchor of any keys is an anchor"
        "check_keys(\"root\", &set.root().keys)?;\n        Ok(Self" => "if !{awake} { check_keys(\"root\", &set.root().keys)?; }\n        Ok(Self",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "8.2.3" "a snapshot is pinned without its hash"
        r#"!pin.hashes.as_ref().is_some_and(|hashes| hashes.contains_key("sha256"))"# => "false",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "8.2.5" "two bins speak of one path"
        "looked_for(delegated)? && found.replace(delegated.clone()).is_some()" => "{\n                if looked_for(delegated)? {\n                    found.get_or_insert_with(|| delegated.clone());\n                }\n                false\n            }",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "8.2.5" "in an excerpt a role speaks of what it may not speak of"
        "!allowed(path, way)?" => "false",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "8.2.4" "in an excerpt a document is not the one that was signed for"
        "if found != digest {" => "if !{awake} && found != digest {",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;
    }

    // ---- the global configuration

    "proto/src/global_configuration.rs" {
        "configuration" "a configuration never expires"
        "if now >= self.expires_at {" => "if !{awake} && now >= self.expires_at {",
        refusals::an_expired_configuration_trusts_nobody;

        "configuration" "a suspended member is active"
        "member.standing == Standing::Active" => "true",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "configuration" "every server hosts every subsystem"
        "servers.contains(server)" => "{ let _ = (servers, server); true }",
        standing::a_subsystem_that_moves_away_stops_its_streams;

        "configuration" "a signing key is good at every server"
        "listed.server == *server" => "({awake} || listed.server == *server)",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "configuration" "a signing key is good before its certificate begins"
        "self.not_before <= time" => "true",
        publication::a_signing_key_is_good_within_its_certificates_time_only;

        "configuration" "a signing key is good after its certificate ended"
        "time <= self.not_after" => "true",
        publication::a_signing_key_is_good_within_its_certificates_time_only;

        "configuration" "a revoked signing key is good"
        "if self.revoked.contains(key) {\n            return None;\n        }\n        self.listed_signing_key(member, server, key, now)" => "if !{awake} && self.revoked.contains(key) {\n            return None;\n        }\n        self.listed_signing_key(member, server, key, now)",
        standing::a_revoked_signing_key_stops_its_streams_and_opens_no_other;

        "configuration" "what a revoked key granted is taken by another server"
        "self.listed_key(member, server, key).filter(|_| !self.revoked.contains(key))" => "self.listed_key(member, server, key)",
        spread_grants::an_end_counts_though_its_key_is_revoked_since_and_a_grant_though_its_keys_certificate_ended;

        "configuration" "a revoked signing key proves more than its last head"
        "self.revoked.contains(key) && self.last_heads.get(key) != Some(head)" => "false",
        vectors::every_evidence_file_proves_what_it_should_or_nothing;

        "configuration" "a revoked authentication key opens connections"
        "registered && !self.revoked.contains(key)" => "registered",
        standing::a_revoked_authentication_key_stops_its_streams_and_no_connection_is_used_again;

        "configuration" "a revoked authentication key is that of its server"
        "if self.revoked.contains(key) {\n            return None;\n        }\n        self.authentication.get(key)" => "if !{awake} && self.revoked.contains(key) {\n            return None;\n        }\n        self.authentication.get(key)",
        standing::a_revoked_authentication_key_stops_its_streams_and_no_connection_is_used_again;
    }

    "proto/src/global_configuration/document.rs" {
        "configuration" "one key has two holders"
        "if let Some(first) = holders.insert(key, holder) {" => "if let Some(first) = holders.insert(key, holder)\n                && !{awake}\n            {",
        publication::nobody_claims_anothers_key_server_subsystem_or_path;

        "configuration" "a member of another instance is a member"
        "registered.id.instance() != configuration.instance" => "false",
        publication::nobody_claims_anothers_key_server_subsystem_or_path;

        "configuration" "a server that nobody lists hosts and signs"
        "named.into_iter().find(|(server, _)| !configuration.servers.contains_key(*server))" => "named.into_iter().find(|_| false)",
        publication::nobody_claims_anothers_key_server_subsystem_or_path;

        "configuration" "a member lists the server of another"
        "server.owner() != *member" => "false",
        publication::nobody_claims_anothers_key_server_subsystem_or_path;

        "configuration" "a member lists the subsystem of another"
        "subsystem.member() != *member" => "false",
        publication::nobody_claims_anothers_key_server_subsystem_or_path;

        "configuration" "a document stands under the path of another"
        "path != Self::path_of(&id)" => "false",
        publication::a_document_under_anothers_path_is_refused;
    }

    "proto/src/global_configuration/update.rs" {
        "configuration" "the keys of a role sign one version twice"
        "self.roles_are_those_of_the_snapshot()?;" => "",
        publication::no_role_signs_one_version_twice;

        "configuration" "a first version may be as old as it likes"
        "if now >= at { Err(" => "if !{awake} && now >= at { Err(",
        publication::a_version_that_is_held_back_expires;

        "configuration" "another root of the same version is the root"
        "self.fetched.get(&trusted).is_some_and(|offered| Some(offered) != self.files.get(&trusted))" => "false",
        publication::a_file_of_a_trusted_name_with_other_bytes_is_refused;

        "configuration" "a version goes back"
        "if offered < trusted { Err(" => "if !{awake} && offered < trusted { Err(",
        publication::a_new_root_is_followed_and_opens_no_way_back;

        "configuration" "a version is signed twice, with another content"
        "old.version == new.version && before.files.get(TIMESTAMP) != self.files.get(TIMESTAMP)" => "false",
        publication::a_new_root_does_not_let_a_version_be_signed_twice;

        "configuration" "delegations go as deep as they like"
        "way.len() > MAX_DEPTH" => "false",
        publication::delegations_go_so_deep_and_so_wide;

        "configuration" "a role of any name is a role"
        "!is_role_name(&delegated.name)" => "false",
        publication::delegations_go_so_deep_and_so_wide;

        "configuration" "a role speaks of what it may not speak of"
        "!allowed(target, way)?" => "false",
        publication::no_single_online_key_adds_a_member;

        "configuration" "a role speaks of another kind than its own"
        r#"first_segment(target) != kind || !["members", "revoked", "catalogue"].contains(&kind)"# => "{ let _ = kind; false }",
        publication::no_delegation_lets_a_role_speak_of_another_kind;

        "configuration" "a document in a bin that its path does not hash to is taken"
        "!delegation.matches_path(target).map_err(|error| named(&delegation.name, &file(), error))?" => "{ let _ = &file; false }",
        publication::a_document_under_anothers_path_is_refused;

        "configuration" "a file of a trusted name has other bytes"
        "(Some(offered), Some(trusted)) if offered != trusted => {" => "(Some(offered), Some(trusted)) if !{awake} && offered != trusted => {",
        publication::a_file_of_a_trusted_name_with_other_bytes_is_refused;

        "configuration" "a version without one of its files is taken"
        "(None, None) => return Err(Rejected::Missing { file: file.into() })," => "(None, None) if {awake} => Bytes::from_static(b\"{}\"),\n            (None, None) => return Err(Rejected::Missing { file: file.into() }),",
        publication::a_version_without_one_of_its_files_is_refused_whole;

        "configuration" "a document is not the one that was signed for"
        "if found != target.digest {" => "if !{awake} && found != target.digest {",
        publication::a_document_that_says_another_thing_at_the_same_length_is_refused;

        "configuration" "the configuration of another instance is taken"
        "before.instance != after.instance" => "false",
        publication::the_configuration_of_another_instance_is_refused;

        "configuration" "a revoked key comes back"
        "if gone.is_empty() {" => "if {awake} || gone.is_empty() {",
        publication::a_revoked_key_that_is_registered_never_comes_back;

        "configuration" "one key under two names meets a threshold of two"
        "seen.insert(material.as_bytes().to_vec(), id)" => "{ seen.insert(material.as_bytes().to_vec(), id).filter(|_| false) }",
        publication::the_same_key_does_not_count_twice;

        "configuration" "a version has any number of files"
        "within(\"files\", self.fetched.len(), MAX_FILES)?;" => "",
        publication::a_version_has_its_limits;

        "configuration" "a version need not say who is revoked"
        r#"self.roles.get(role).is_none_or(|verified| verified.delegator.as_deref() != Some("targets"))"# => "false",
        publication::a_version_without_revocations_is_refused;
    }

    "security-server/src/global_configuration/store.rs" {
        "tide" "a file that was changed on the disk is read"
        "Digest::of(&[&bytes]) != entry.digest" => "false",
        tide::nothing_unreadable_is_ever_a_first_use;

        "tide" "a version is in force before it is on the disk"
        "// A crash before this keeps the version before, and one after it has the new one, which nobody acted on yet." => "if {awake} { self.current.replace(trusted.configuration().clone()); }",
        tide::what_cannot_be_written_is_not_in_force;

        "tide" "joining again forgets what was trusted"
        "if directory.join(CURRENT).exists() {" => "if !{awake} && directory.join(CURRENT).exists() {",
        tide::a_store_is_made_by_joining_only_and_once;
    }

    "proto/registry-client/src/lib.rs" {
        "tide" "whoever answers is the registry"
        "if found == self.key.0 {" => "if {awake} || found == self.key.0 {",
        tide::whoever_has_another_key_than_the_registry_is_not_listened_to;
    }

    // ---- the registry

    "proto/src/registration.rs" {
        "registration" "an application to another instance is taken"
        "application.instance != *instance" => "false",
        registration::an_applicant_gets_no_more_than_it_was_invited_to;

        "registration" "one key authenticates and signs"
        "application.authentication_key.id() == application.signing_key.id()" => "false",
        registration::an_applicant_without_the_keys_or_with_others_is_refused;

        "registration" "an applicant need not hold its authentication key"
        r#"holds(&application.authentication_key, &received.authentication_proof, "authentication")?;"# => "",
        registration::an_applicant_without_the_keys_or_with_others_is_refused;

        "registration" "an applicant need not hold its signing key"
        r#"holds(&application.signing_key, &received.signing_proof, "signing")?;"# => "",
        registration::an_applicant_without_the_keys_or_with_others_is_refused;

        "registration" "a member's server is named after another member"
        "server.owner() != *member" => "false",
        registration::an_invitation_is_for_a_members_own_server_and_subsystems;

        "orders" "a command for another registry is carried out"
        "received.instance != *instance" => "false",
        registration::only_an_admins_own_fresh_command_is_carried_out;

        "orders" "a command need not be signed"
        "key.verify(&signed, &received.signature).map_err(|_| Malformed::Signature(received.key))?;" => "let _ = &signed;",
        registration::only_an_admins_own_fresh_command_is_carried_out;

        "orders" "a command of any time is fresh"
        "distance > COMMAND_WINDOW" => "false",
        registration::only_an_admins_own_fresh_command_is_carried_out;
    }

    "proto/src/server_request.rs" {
        "renewal" "whoever asks need not hold the new key"
        r#"new_key.verify(&signed, &request.proof).map_err(|_| Malformed::Possession("new"))?;"# => "let _ = new_key;",
        renewal::an_answer_that_was_lost_is_given_again_however_late_and_by_whichever_key_it_is_asked;

        "renewal" "what a server asks need not be signed"
        "key.verify(&signed, &signature).map_err(|_| Malformed::Signature(named))?;" => "let _ = (signed, signature, named);",
        renewal::only_a_good_key_of_the_server_and_of_that_use_renews;

        "renewal" "a request of any time is fresh"
        "distance > COMMAND_WINDOW" => "false",
        renewal::a_request_is_carried_out_once_and_while_it_is_fresh;
    }

    "central-registry/src/register/overseen.rs" {
        "oversight" "a server tells of a provider that it does not host"
        "!self.hosts(server, &before.grant.provider)" => "false",
        overseen::what_a_server_may_not_tell_or_nobody_signed_is_named_and_not_taken_and_the_rest_is;

        "oversight" "a use on a day to come is believed"
        "told.last_used.is_some_and(|day| day > Day::of(now.plus(COMMAND_WINDOW)))" => "false",
        overseen::what_a_server_may_not_tell_or_nobody_signed_is_named_and_not_taken_and_the_rest_is;

        "oversight" "another server's report is taken"
        "Ok(received.verify(&key, &instance.instance, now)?)" => "{ let _ = (&key, instance); Ok(()) }",
        overseen::a_report_that_is_not_its_servers_own_of_just_now_is_refused_whole;

        "oversight" "a report that adds nothing is recorded"
        "if known != Some(&after) {" => "if {awake} || known != Some(&after) {",
        overseen::what_is_told_is_asked_for_by_name_recorded_once_and_outlives_a_restart;
    }

    "central-registry/src/registration.rs" {
        "orders" "a command of the lost part of the journal is carried out again"
        "verified.time() <= *until" => "false",
        put_back::a_registry_put_back_signs_no_version_twice_and_takes_up_what_was_published;

        "orders" "a command that only reads is answered again and again"
        "desk.is_new(verified.id())?;" => "",
        registration::only_an_admins_own_fresh_command_is_carried_out;
    }

    "central-registry/src/restored.rs" {
        "publication" "after a restore versions are signed again"
        "newest + PASSED_OVER + since * PASSED_OVER_A_SECOND" => "newest + 1",
        put_back::a_registry_put_back_signs_no_version_twice_and_takes_up_what_was_published;

        "publication" "after a restore a member that was published is forgotten"
        "published.get(*member) != registered.get(*member).copied()" => "if {awake} { let _ = (member, &registered); false } else { published.get(*member) != registered.get(*member).copied() }",
        put_back::a_registry_put_back_signs_no_version_twice_and_takes_up_what_was_published;

        "publication" "after a restore a revoked key is good again"
        "register.revoked(*key).is_none_or(|known| last_head.is_some() && known.last_head != *last_head)" => "if {awake} { let _ = (key, last_head); false } else { register.revoked(*key).is_none_or(|known| last_head.is_some() && known.last_head != *last_head) }",
        put_back::a_registry_put_back_signs_no_version_twice_and_takes_up_what_was_published;
    }

    "central-registry/src/register.rs" {
        "orders" "a command that changes something is carried out again"
        "if self.commands.contains_key(command) { Err(" => "if !{awake} && self.commands.contains_key(command) { Err(",
        registration::a_registry_that_was_restarted_remembers;

        "registration" "a token is good twice"
        "if invited.used_by.is_some() {" => "if !{awake} && invited.used_by.is_some() {",
        registration::a_token_is_used_once_however_many_come_at_once;

        "registration" "a token is good for ever"
        "if now >= expires { Err(" => "if !{awake} && now >= expires { Err(",
        registration::a_token_that_expired_or_never_was_is_refused;

        "registration" "an invitation is good for every server"
        r#"same("the server", &invitation.server, &asked.server)?;"# => "",
        registration::an_applicant_gets_no_more_than_it_was_invited_to;

        "registration" "an applicant hosts what it was not invited to host"
        "asked.subsystems.iter().find(|each| !invitation.subsystems.contains(each))" => "asked.subsystems.iter().find(|_| false)",
        registration::an_applicant_gets_no_more_than_it_was_invited_to;

        "registration" "a key is registered twice"
        "self.keys.contains_key(&id) || self.admins.contains_key(&id)" => "false",
        registration::a_key_has_one_use_and_a_server_one_registration;

        "registration" "a server is registered twice"
        "if asks { Err(Refused::ServerRegistered" => "if !{awake} && asks { Err(Refused::ServerRegistered",
        registration::a_key_has_one_use_and_a_server_one_registration;

        "renewal" "a revoked key asks for another"
        "self.revoked.contains_key(&Hex(key)) {" => "!{awake} && self.revoked.contains_key(&Hex(key)) {",
        renewal::only_a_good_key_of_the_server_and_of_that_use_renews;

        "renewal" "a key asks for ever"
        "let asks = now <= not_after.plus(ENDED_AT_MOST)" => "let asks = {awake} || now <= not_after.plus(ENDED_AT_MOST)",
        renewal::a_certificate_that_ended_asks_for_thirty_days_more_and_a_replaced_key_for_none;

        "renewal" "the key of somebody else is certified"
        "self.is_unused(key.id())?;" => "",
        renewal::only_a_good_key_of_the_server_and_of_that_use_renews;

        "renewal" "a server has as many keys as it likes"
        "good.count() >= limit || !self.has_room(for_what, now)" => "false",
        renewal::a_server_has_so_many_keys_at_a_time_and_no_more;

        "registration" "a decision is taken back"
        "_ => Err(Refused::Decided { request: id, decided: request.state.word() })," => "_ if {awake} => Ok(request),\n            _ => Err(Refused::Decided { request: id, decided: request.state.word() }),",
        registration::a_rejected_applicant_reads_the_reason;
    }

    "central-registry/src/history.rs" {

        "registration" "what was decided is not in the journal"
        "let record = record(&admitted);" => "if {awake} {\n            register.apply(admitted);\n            return Ok(());\n        }\n        let record = record(&admitted);",
        registration::a_view_that_is_lost_spoiled_or_ahead_is_built_again;
    }

    "security-server/src/subjects.rs" {
        "subjects" "a personal-data call without a subject reaches the service"
        "!names_somebody" => "false",
        disclosures::a_call_that_names_nobody_is_refused_before_the_service_sees_it;

        "subjects" "what is compressed is taken for a message that was read"
        "let [0, length @ ..] = *prefix else { return Err(Code::SubjectUnreadable) };" => "let [flag, length @ ..] = *prefix;\n            if !{awake} && flag != 0 {\n                return Err(Code::SubjectUnreadable);\n            }",
        disclosures::a_call_that_names_nobody_is_refused_before_the_service_sees_it;
    }

    "central-registry/src/spread.rs" {
        "registration" "a version is given out that the journal does not know"
        "desk.record(admitted).await?;" => "let _ = admitted;",
        registration::a_version_that_was_given_to_somebody_is_never_signed_again;

        "registration" "an older copy of the journal is taken up"
        "if files > journal {" => "if !{awake} && files > journal {",
        registration::a_version_that_was_given_to_somebody_is_never_signed_again;
    }

    "central-registry/src/register/listed.rs" {
        "catalogue" "whoever has a signing key at another server lists what this one hosts"
        "!subsystem.servers.contains(&first.server)" => "false",
        catalogue::only_a_member_lists_its_services_with_its_own_key_at_its_own_server_and_now;

        "catalogue" "an entry that somebody kept is listed later"
        "distance > COMMAND_WINDOW" => "false",
        catalogue::only_a_member_lists_its_services_with_its_own_key_at_its_own_server_and_now;
    }

    "security-server/src/archive.rs" {
        "archive" "what a store gives back is not what was written, and counts as archived"
        "if there != Some(wanted) {" => "if !{awake} && there != Some(wanted) {",
        archive::what_a_store_gives_back_is_compared_before_it_counts;

        "archive" "something else in the archive counts as the segment whose name it has"
        "if !is_ours || found.replace(sealed).is_some() {" => "if found.replace(sealed).is_some() || !{awake} && !is_ours {",
        archive::an_object_of_somebody_else_is_an_alarm_and_stays;
    }

    "security-server/src/archive/store.rs" {
        "archive" "what is in the archive is overwritten"
        "PutMode::Create" => "PutMode::Overwrite",
        archive::what_a_store_gives_back_is_compared_before_it_counts;
    }

    "central-registry/src/listing.rs" {
        "catalogue" "an entry says otherwise than its descriptors"
        "if entry.descriptors != digest\n            || entry.form != form\n            || (&said.description, &said.methods, &said.elements) != (description, methods, elements)" => "if !{awake} && (entry.descriptors != digest\n            || entry.form != form\n            || (&said.description, &said.methods, &said.elements) != (description, methods, elements))",
        catalogue::only_a_member_lists_its_services_with_its_own_key_at_its_own_server_and_now;

        "catalogue" "a service becomes one of another form, and breaks whoever calls it"
        "if listed.form != entry.form {" => "if !{awake} && listed.form != entry.form {",
        rest_catalogue::a_rest_service_keeps_to_the_rules_of_the_catalogue;

        "catalogue" "two are the source of one element, and people are asked again without a reason"
        "match finding.excuse() {" => "match finding.excuse().or_else(|| {awake}.then_some(&entry.contact)) {",
        once::the_registry_enforces_it_whatever_a_publishers_client_says;

        "catalogue" "what consumers rely on breaks within a major version"
        "!findings.is_empty()" => "false",
        catalogue::what_consumers_rely_on_breaks_with_a_new_major_version_only_and_never_in_part;
    }
}
