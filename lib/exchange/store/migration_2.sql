-- Version 2: the rest of the rulebook. Trading statuses, what operators did, stops that are amended, and the parts of an
-- asset's definition that came with sessions and bands.

ALTER TABLE assets
    ADD COLUMN reference_price bigint,
    ADD COLUMN price_band_ppm bigint,
    ADD COLUMN volatility_band_ppm bigint,
    ADD COLUMN call_seconds integer NOT NULL DEFAULT 120,
    ADD COLUMN schedule jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC',
    ADD COLUMN trading_days text[] NOT NULL DEFAULT '{mon,tue,wed,thu,fri,sat,sun}',
    ADD COLUMN closed_dates text[] NOT NULL DEFAULT '{}',
    ADD COLUMN day_roll text NOT NULL DEFAULT '00:00';

ALTER TABLE order_events ADD COLUMN stop_price bigint;

CREATE TABLE asset_statuses (
    asset          text        COLLATE "C" NOT NULL,
    event_sequence bigint      NOT NULL,
    sequence       bigint      NOT NULL,
    status         text        NOT NULL,
    reason         text        NOT NULL,
    operator       text,
    call_ends      timestamptz,
    call_ends_ns   bigint,
    occurred_at    timestamptz NOT NULL,
    occurred_at_ns bigint      NOT NULL,
    PRIMARY KEY (asset, event_sequence)
);

CREATE TABLE operator_acts (
    asset          text        COLLATE "C" NOT NULL,
    sequence       bigint      NOT NULL,
    operator       text        NOT NULL,
    act            text        NOT NULL,
    account        text,
    side           text,
    status         text,
    reason         text,
    first_event    bigint,
    last_event     bigint,
    occurred_at    timestamptz NOT NULL,
    occurred_at_ns bigint      NOT NULL,
    PRIMARY KEY (asset, sequence)
);

CREATE VIEW asset_states AS
SELECT
    defined.asset,
    coalesce(last.status, 'open') AS status,
    last.reason,
    last.operator,
    last.call_ends,
    last.call_ends_ns,
    last.occurred_at AS since,
    last.occurred_at_ns AS since_ns
FROM assets AS defined
LEFT JOIN LATERAL (
    SELECT * FROM asset_statuses WHERE asset = defined.asset ORDER BY event_sequence DESC LIMIT 1
) AS last ON true;

COMMENT ON COLUMN assets.reference_price IS 'What a price band goes by where there is no last trade; NULL: nothing.';
COMMENT ON COLUMN assets.price_band_ppm IS 'How far a limit may be from the reference price, in millionths of it; '
    'NULL: any distance.';
COMMENT ON COLUMN assets.volatility_band_ppm IS 'How far a trade may be from the last auction''s price, in millionths '
    'of it, before it brings a call; NULL: any distance.';
COMMENT ON COLUMN assets.call_seconds IS 'How long the call of a volatility interruption lasts.';
COMMENT ON COLUMN assets.schedule IS 'The day''s changes of the status: [{"at": "09:00", "status": "call"}, ...]; '
    '[]: no sessions.';
COMMENT ON COLUMN assets.time_zone IS 'Of the schedule and the day roll: a name of the IANA database.';
COMMENT ON COLUMN assets.trading_days IS 'The days of the week that the schedule is for.';
COMMENT ON COLUMN assets.closed_dates IS 'The dates, as YYYY-MM-DD, on which the schedule rests.';
COMMENT ON COLUMN assets.day_roll IS 'When day orders of an asset without sessions expire.';
COMMENT ON TABLE trades IS 'Every trade, at the maker''s price, or an auction''s. '
    'Prices and quantities are integers in the asset''s scales.';
COMMENT ON COLUMN trades.price IS 'The maker''s price; in an auction, its one price.';
COMMENT ON COLUMN trades.aggressor IS 'The taker''s side: buy or sell; in an auction, buy.';
COMMENT ON COLUMN trades.maker_order_id IS 'The order that was resting; in an auction, the sell order.';
COMMENT ON COLUMN trades.taker_order_id IS 'The order that came in; in an auction, the buy order.';
COMMENT ON COLUMN trades.maker_account IS 'Whose the maker''s order was.';
COMMENT ON COLUMN trades.taker_account IS 'Whose the taker''s order was.';
COMMENT ON COLUMN order_events.exec_type IS 'canceled, expired, rejected: the order''s end; replaced; triggered: a stop '
    'entered the book; restated: an iceberg showed its next part (no reason), or self-trade prevention took off what '
    'was open (with that reason); cancel_rejected, amend_rejected.';
COMMENT ON COLUMN order_events.price IS 'The order''s limit; NULL where it has none, or the event does not tell.';
COMMENT ON COLUMN order_events.stop_price IS 'Of a replaced stop that waits: its stop price; else NULL.';
COMMENT ON TABLE asset_statuses IS 'Every change of an asset''s trading status. One that has none is open.';
COMMENT ON COLUMN asset_statuses.asset IS 'The asset.';
COMMENT ON COLUMN asset_statuses.event_sequence IS 'The event''s number in its asset''s event log; rising, with gaps.';
COMMENT ON COLUMN asset_statuses.sequence IS 'The place in the asset''s queue of the request that caused it: a change '
    'of the status, a definition, or the order (orders.sequence) or amend that a volatility interruption stopped.';
COMMENT ON COLUMN asset_statuses.status IS 'From here on: open, closed, call or halted.';
COMMENT ON COLUMN asset_statuses.reason IS 'Why, as on the status feed.';
COMMENT ON COLUMN asset_statuses.operator IS 'Who did it; NULL: the exchange itself.';
COMMENT ON COLUMN asset_statuses.call_ends IS 'When a call ends by itself; NULL where it does not.';
COMMENT ON COLUMN asset_statuses.call_ends_ns IS 'The same in nanoseconds since the Unix epoch.';
COMMENT ON COLUMN asset_statuses.occurred_at IS 'The time of the request that caused it, cut to microseconds.';
COMMENT ON COLUMN asset_statuses.occurred_at_ns IS 'The same in nanoseconds since the Unix epoch.';
COMMENT ON TABLE operator_acts IS 'What operators did by hand, those acts included that changed nothing.';
COMMENT ON COLUMN operator_acts.asset IS 'The asset; an act on several assets is one row for each.';
COMMENT ON COLUMN operator_acts.sequence IS 'The act''s place in its asset''s queue of requests.';
COMMENT ON COLUMN operator_acts.operator IS 'Who did it.';
COMMENT ON COLUMN operator_acts.act IS 'define_asset, change_status, mass_cancel or delist.';
COMMENT ON COLUMN operator_acts.account IS 'Of a mass_cancel: whose orders.';
COMMENT ON COLUMN operator_acts.side IS 'Of a mass_cancel: buy or sell; NULL: both.';
COMMENT ON COLUMN operator_acts.status IS 'Of a change_status: which was asked for.';
COMMENT ON COLUMN operator_acts.reason IS 'As the operator''s request gives it; NULL where it gives none.';
COMMENT ON COLUMN operator_acts.first_event IS 'The number of the first event that came of it; NULL: none came.';
COMMENT ON COLUMN operator_acts.last_event IS 'The last one''s: what it did to orders is in order_events between them.';
COMMENT ON COLUMN operator_acts.occurred_at IS 'When the order handler took it, cut to microseconds.';
COMMENT ON COLUMN operator_acts.occurred_at_ns IS 'The same in nanoseconds since the Unix epoch.';
COMMENT ON VIEW asset_states IS 'Each asset''s present trading status.';
COMMENT ON COLUMN asset_states.asset IS 'The asset.';
COMMENT ON COLUMN asset_states.status IS 'open, closed, call or halted.';
COMMENT ON COLUMN asset_states.reason IS 'Why; NULL where the status never changed.';
COMMENT ON COLUMN asset_states.operator IS 'Who did it; NULL: the exchange itself.';
COMMENT ON COLUMN asset_states.call_ends IS 'When a call ends by itself; NULL where it does not.';
COMMENT ON COLUMN asset_states.call_ends_ns IS 'The same in nanoseconds since the Unix epoch.';
COMMENT ON COLUMN asset_states.since IS 'Since when, cut to microseconds; NULL where the status never changed.';
COMMENT ON COLUMN asset_states.since_ns IS 'The same in nanoseconds since the Unix epoch.';
