-- +goose Up
-- The workers that live, so that they can share the channels out (roster.go).
CREATE TABLE workers (
    id         TEXT PRIMARY KEY, -- of one process alone, as in leases
    name       TEXT    NOT NULL, -- that people gave it
    dedicated  BOOLEAN NOT NULL, -- it runs reserved channels only
    capacity   BIGINT  NOT NULL, -- most channels that it runs
    expires_at BIGINT  NOT NULL  -- by the database's clock
);

-- Channels that dedicated workers want for themselves, for as long as these
-- live. Those that do not exist, or not yet, may be wanted too.
CREATE TABLE reservations (
    channel_id BIGINT NOT NULL,
    worker_id  TEXT   NOT NULL REFERENCES workers (id) ON DELETE CASCADE,
    PRIMARY KEY (channel_id, worker_id)
);
CREATE INDEX reservations_worker ON reservations (worker_id);

-- +goose Down
DROP TABLE reservations;
DROP TABLE workers;
