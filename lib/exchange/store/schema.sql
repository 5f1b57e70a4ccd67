-- The exchange's database, version 2: written by the logger alone, read by anyone.
--
-- Everything here is a function of the event logs, so it can be dropped and filled again. Tables only grow (but for
-- `assets` and `applied`, which hold the last of each); what changes is a view.
--
-- The write path pays for every index and constraint, at tens of thousands of rows a second. Hence:
--   * no foreign keys: what they would guard holds by construction, and each costs a look-up per row;
--   * checks only where a wrong value would be read as a right one;
--   * besides the keys, one narrow index wherever `order_states` looks an order up. Order ids are unique over all
--     assets, so eight bytes do. They serve every query by order; queries by account read the table, and who has many
--     of them adds an index (docs/database.md);
--   * times are indexed by block range: next to nothing to keep, and rows come nearly in the order of time.
--
-- A later version's columns come last in their table: that is where a migration can put them.

CREATE TABLE schema_version (
    version      integer     PRIMARY KEY,
    installed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE assets (
    asset          text        COLLATE "C" PRIMARY KEY,
    price_scale    integer     NOT NULL,
    quantity_scale integer     NOT NULL,
    tick_size      bigint      NOT NULL,
    lot_size       bigint      NOT NULL,
    min_quantity   bigint      NOT NULL,
    max_quantity   bigint      NOT NULL,
    min_price      bigint      NOT NULL,
    max_price      bigint      NOT NULL,
    self_trade     text        NOT NULL,
    sequence       bigint      NOT NULL,
    defined_at     timestamptz NOT NULL,
    defined_at_ns  bigint      NOT NULL,
    price_unit     numeric     NOT NULL GENERATED ALWAYS AS (('1e-' || price_scale::text)::numeric) STORED,
    quantity_unit  numeric     NOT NULL GENERATED ALWAYS AS (('1e-' || quantity_scale::text)::numeric) STORED,
    reference_price     bigint,
    price_band_ppm      bigint,
    volatility_band_ppm bigint,
    call_seconds        integer NOT NULL DEFAULT 120,
    schedule            jsonb   NOT NULL DEFAULT '[]',
    time_zone           text    NOT NULL DEFAULT 'UTC',
    trading_days        text[]  NOT NULL DEFAULT '{mon,tue,wed,thu,fri,sat,sun}',
    closed_dates        text[]  NOT NULL DEFAULT '{}',
    day_roll            text    NOT NULL DEFAULT '00:00'
);

CREATE TABLE orders (
    asset                 text        COLLATE "C" NOT NULL,
    order_id              bigint      NOT NULL,
    sequence              bigint      NOT NULL,
    account               text        NOT NULL,
    client_order_id       text        NOT NULL,
    side                  text        NOT NULL CHECK (side IN ('buy', 'sell')),
    order_type            text        NOT NULL,
    time_in_force         text        NOT NULL,
    price                 bigint,
    stop_price            bigint,
    quantity              bigint      NOT NULL CHECK (quantity > 0),
    display_quantity      bigint,
    min_quantity          bigint,
    post_only             boolean     NOT NULL DEFAULT false,
    self_trade_prevention text        NOT NULL DEFAULT 'cancel_newest',
    expire_time           timestamptz,
    expire_time_ns        bigint,
    received_at           timestamptz NOT NULL,
    received_at_ns        bigint      NOT NULL,
    PRIMARY KEY (asset, order_id)
);
CREATE INDEX orders_received_at ON orders USING brin (received_at);

CREATE TABLE trades (
    asset          text        COLLATE "C" NOT NULL,
    trade_id       bigint      NOT NULL,
    price          bigint      NOT NULL,
    quantity       bigint      NOT NULL CHECK (quantity > 0),
    aggressor      text        NOT NULL CHECK (aggressor IN ('buy', 'sell')),
    maker_order_id bigint      NOT NULL,
    taker_order_id bigint      NOT NULL,
    maker_account  text        NOT NULL,
    taker_account  text        NOT NULL,
    executed_at    timestamptz NOT NULL,
    executed_at_ns bigint      NOT NULL,
    PRIMARY KEY (asset, trade_id)
);
CREATE INDEX trades_maker_order_id ON trades (maker_order_id);
CREATE INDEX trades_taker_order_id ON trades (taker_order_id);
CREATE INDEX trades_executed_at ON trades USING brin (executed_at);

CREATE TABLE order_events (
    asset           text        COLLATE "C" NOT NULL,
    event_sequence  bigint      NOT NULL,
    order_id        bigint      NOT NULL,
    exec_type       text        NOT NULL,
    reason          text,
    price           bigint,
    quantity        bigint,
    leaves_quantity bigint,
    occurred_at     timestamptz NOT NULL,
    occurred_at_ns  bigint      NOT NULL,
    stop_price      bigint,
    PRIMARY KEY (asset, event_sequence)
);
CREATE INDEX order_events_order_id ON order_events (order_id);

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

CREATE TABLE applied (
    asset          text        COLLATE "C" PRIMARY KEY,
    sequence       bigint      NOT NULL,
    event_sequence bigint      NOT NULL,
    trade_id       bigint      NOT NULL,
    time           timestamptz NOT NULL,
    time_ns        bigint      NOT NULL
) WITH (fillfactor = 50); -- a row is rewritten with every transaction: within its page, if that has room

-- Look-ups per order rather than one aggregate over all, so that few orders cost little however they are chosen, and
-- all of them cost in proportion. They compare order ids alone, which are unique over all assets: with the asset beside
-- it, a planner that has no statistics yet may choose the table's key and read the whole asset for each order.
CREATE VIEW order_states AS
SELECT
    received.asset,
    received.order_id,
    CASE
        WHEN event.ended IS NOT NULL THEN event.ended
        WHEN traded.quantity = total.quantity THEN 'filled'
        WHEN traded.quantity > 0 THEN 'partially_filled'
        WHEN received.order_type IN ('stop', 'stop_limit') AND event.triggered IS NOT TRUE THEN 'pending_trigger'
        ELSE 'new'
    END AS status,
    traded.quantity AS cumulative_quantity,
    CASE WHEN event.ended IS NOT NULL THEN 0 ELSE total.quantity - traded.quantity END AS leaves_quantity
FROM orders AS received
CROSS JOIN LATERAL (
    SELECT
        max(exec_type) FILTER (WHERE exec_type IN ('canceled', 'expired', 'rejected')) AS ended,
        bool_or(exec_type = 'triggered') AS triggered,
        (array_agg(quantity ORDER BY event_sequence DESC) FILTER (WHERE quantity IS NOT NULL))[1] AS quantity
    FROM order_events
    WHERE order_id = received.order_id
) AS event
CROSS JOIN LATERAL (
    SELECT coalesce(sum(quantity), 0)::bigint AS quantity
    FROM (
        SELECT quantity FROM trades WHERE maker_order_id = received.order_id
        UNION ALL
        SELECT quantity FROM trades WHERE taker_order_id = received.order_id
    ) AS both_sides
) AS traded
CROSS JOIN LATERAL (SELECT coalesce(event.quantity, received.quantity) AS quantity) AS total;

-- An asset that never changed its status has none to be closed by: it is open.
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

-- A price times a unit such as 0.01 is exact and has just the scale's decimals, which a division has not.
CREATE VIEW trades_decimal AS
SELECT
    asset,
    trade_id,
    price * price_unit AS price,
    quantity * quantity_unit AS quantity,
    aggressor,
    maker_order_id,
    taker_order_id,
    maker_account,
    taker_account,
    executed_at,
    executed_at_ns
FROM trades
LEFT JOIN assets USING (asset);

CREATE VIEW orders_decimal AS
SELECT
    asset,
    order_id,
    orders.sequence,
    account,
    client_order_id,
    side,
    order_type,
    time_in_force,
    price * price_unit AS price,
    stop_price * price_unit AS stop_price,
    quantity * quantity_unit AS quantity,
    display_quantity * quantity_unit AS display_quantity,
    orders.min_quantity * quantity_unit AS min_quantity,
    post_only,
    self_trade_prevention,
    expire_time,
    expire_time_ns,
    received_at,
    received_at_ns
FROM orders
LEFT JOIN assets USING (asset);

-- -- what it all means -----------------------------------------------------------------------------------------------

COMMENT ON TABLE schema_version IS 'One row: the version of this schema. A program refuses a newer one than it knows.';
COMMENT ON COLUMN schema_version.version IS 'Counts from 1.';
COMMENT ON COLUMN schema_version.installed_at IS 'When the schema was created or last migrated.';

COMMENT ON TABLE assets IS 'Each asset as last defined. Scales never change once an asset has traded.';
COMMENT ON COLUMN assets.asset IS 'Its name, e.g. BTC-USD.';
COMMENT ON COLUMN assets.price_scale IS 'A price is the real price x 10^price_scale.';
COMMENT ON COLUMN assets.quantity_scale IS 'A quantity is the real quantity x 10^quantity_scale.';
COMMENT ON COLUMN assets.tick_size IS 'Prices are its multiples.';
COMMENT ON COLUMN assets.lot_size IS 'Quantities are its multiples.';
COMMENT ON COLUMN assets.min_quantity IS 'Smallest quantity of an order.';
COMMENT ON COLUMN assets.max_quantity IS 'Largest quantity of an order.';
COMMENT ON COLUMN assets.min_price IS 'Lowest price of an order.';
COMMENT ON COLUMN assets.max_price IS 'Highest price of an order.';
COMMENT ON COLUMN assets.self_trade IS 'prevent, or allow: whether an account may trade with itself.';
COMMENT ON COLUMN assets.sequence IS 'The place of the last definition in the asset''s queue.';
COMMENT ON COLUMN assets.defined_at IS 'When that definition was given.';
COMMENT ON COLUMN assets.defined_at_ns IS 'The same in nanoseconds since the Unix epoch.';
COMMENT ON COLUMN assets.price_unit IS 'What a price of 1 is in real units, exactly: 10^-price_scale.';
COMMENT ON COLUMN assets.quantity_unit IS 'What a quantity of 1 is in real units, exactly: 10^-quantity_scale.';

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

COMMENT ON TABLE orders IS 'Every order received, as received; what became of it is in order_states. '
    'Prices and quantities are integers in the asset''s scales.';
COMMENT ON COLUMN orders.asset IS 'The asset; assets has its scales.';
COMMENT ON COLUMN orders.order_id IS 'Given by the exchange, unique over all assets, never reused.';
COMMENT ON COLUMN orders.sequence IS 'The order''s place in its asset''s queue of requests.';
COMMENT ON COLUMN orders.account IS 'Whose order it is.';
COMMENT ON COLUMN orders.client_order_id IS 'The client''s own id of it.';
COMMENT ON COLUMN orders.side IS 'buy or sell.';
COMMENT ON COLUMN orders.order_type IS 'limit, market, stop or stop_limit.';
COMMENT ON COLUMN orders.time_in_force IS 'gtc, ioc, fok, day or gtd.';
COMMENT ON COLUMN orders.price IS 'The limit; NULL where there is none, as for a market order.';
COMMENT ON COLUMN orders.stop_price IS 'The price that triggers a stop order; else NULL.';
COMMENT ON COLUMN orders.quantity IS 'The total as entered; an amend''s new total is in order_events.';
COMMENT ON COLUMN orders.display_quantity IS 'How much of it the book shows at a time; NULL: all.';
COMMENT ON COLUMN orders.min_quantity IS 'How much must trade at once on entry; NULL: no condition.';
COMMENT ON COLUMN orders.post_only IS 'Whether it must not take.';
COMMENT ON COLUMN orders.self_trade_prevention IS 'What happens where it meets an order of its own account.';
COMMENT ON COLUMN orders.expire_time IS 'When a gtd order ends; else NULL.';
COMMENT ON COLUMN orders.expire_time_ns IS 'The same in nanoseconds since the Unix epoch.';
COMMENT ON COLUMN orders.received_at IS 'When the order handler took it, cut to microseconds.';
COMMENT ON COLUMN orders.received_at_ns IS 'The same in nanoseconds since the Unix epoch.';

COMMENT ON TABLE trades IS 'Every trade, at the maker''s price, or an auction''s. '
    'Prices and quantities are integers in the asset''s scales.';
COMMENT ON COLUMN trades.asset IS 'The asset; assets has its scales.';
COMMENT ON COLUMN trades.trade_id IS '1, 2, 3, ... per asset, without a gap.';
COMMENT ON COLUMN trades.price IS 'The maker''s price; in an auction, its one price.';
COMMENT ON COLUMN trades.quantity IS 'How much traded.';
COMMENT ON COLUMN trades.aggressor IS 'The taker''s side: buy or sell; in an auction, buy.';
COMMENT ON COLUMN trades.maker_order_id IS 'The order that was resting; in an auction, the sell order.';
COMMENT ON COLUMN trades.taker_order_id IS 'The order that came in; in an auction, the buy order.';
COMMENT ON COLUMN trades.maker_account IS 'Whose the maker''s order was.';
COMMENT ON COLUMN trades.taker_account IS 'Whose the taker''s order was.';
COMMENT ON COLUMN trades.executed_at IS 'The time of the request that traded, cut to microseconds.';
COMMENT ON COLUMN trades.executed_at_ns IS 'The same in nanoseconds since the Unix epoch.';

COMMENT ON TABLE order_events IS 'What else happened to orders: all but being entered, resting and trading. '
    'Prices and quantities are integers in the asset''s scales, as of after the event.';
COMMENT ON COLUMN order_events.asset IS 'The asset; assets has its scales.';
COMMENT ON COLUMN order_events.event_sequence IS 'The event''s number in its asset''s event log; rising, with gaps.';
COMMENT ON COLUMN order_events.order_id IS 'The order.';
COMMENT ON COLUMN order_events.exec_type IS 'canceled, expired, rejected: the order''s end; replaced; triggered: a stop '
    'entered the book; restated: an iceberg showed its next part (no reason), or self-trade prevention took off what '
    'was open (with that reason); cancel_rejected, amend_rejected.';
COMMENT ON COLUMN order_events.reason IS 'Why, as on the private feed; NULL where there is nothing to say.';
COMMENT ON COLUMN order_events.price IS 'The order''s limit; NULL where it has none, or the event does not tell.';
COMMENT ON COLUMN order_events.quantity IS 'The order''s total, fills included; NULL where the event does not tell.';
COMMENT ON COLUMN order_events.leaves_quantity IS 'What is open, 0 at its end; NULL where the event does not tell.';
COMMENT ON COLUMN order_events.occurred_at IS 'The time of the request that caused it, cut to microseconds.';
COMMENT ON COLUMN order_events.occurred_at_ns IS 'The same in nanoseconds since the Unix epoch.';
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

COMMENT ON TABLE applied IS 'How far each asset''s event log is stored: written in one transaction with the rows.';
COMMENT ON COLUMN applied.asset IS 'The asset.';
COMMENT ON COLUMN applied.sequence IS 'The last request whose events are stored.';
COMMENT ON COLUMN applied.event_sequence IS 'The last event.';
COMMENT ON COLUMN applied.trade_id IS 'The last trade; 0: none yet.';
COMMENT ON COLUMN applied.time IS 'The time of that request, cut to microseconds.';
COMMENT ON COLUMN applied.time_ns IS 'The same in nanoseconds since the Unix epoch.';

COMMENT ON VIEW order_states IS 'Each order as it stands. Costs three look-ups an order.';
COMMENT ON COLUMN order_states.asset IS 'The asset.';
COMMENT ON COLUMN order_states.order_id IS 'The order.';
COMMENT ON COLUMN order_states.status IS 'new, pending_trigger, partially_filled, filled, canceled, '
    'rejected or expired.';
COMMENT ON COLUMN order_states.cumulative_quantity IS 'What has traded, as maker and as taker.';
COMMENT ON COLUMN order_states.leaves_quantity IS 'What is still open; 0 once the order ended.';
COMMENT ON VIEW asset_states IS 'Each asset''s present trading status.';
COMMENT ON COLUMN asset_states.asset IS 'The asset.';
COMMENT ON COLUMN asset_states.status IS 'open, closed, call or halted.';
COMMENT ON COLUMN asset_states.reason IS 'Why; NULL where the status never changed.';
COMMENT ON COLUMN asset_states.operator IS 'Who did it; NULL: the exchange itself.';
COMMENT ON COLUMN asset_states.call_ends IS 'When a call ends by itself; NULL where it does not.';
COMMENT ON COLUMN asset_states.call_ends_ns IS 'The same in nanoseconds since the Unix epoch.';
COMMENT ON COLUMN asset_states.since IS 'Since when, cut to microseconds; NULL where the status never changed.';
COMMENT ON COLUMN asset_states.since_ns IS 'The same in nanoseconds since the Unix epoch.';
COMMENT ON VIEW trades_decimal IS 'trades with prices and quantities in real units, exactly.';
COMMENT ON VIEW orders_decimal IS 'orders with prices and quantities in real units, exactly.';
