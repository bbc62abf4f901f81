-- +goose Up
-- Where this database lived when the epochs of its event logs were last given
-- (place.go). One row at most; PostgreSQL only.
CREATE TABLE event_log_place (
    id           BIGINT PRIMARY KEY,
    system_id    TEXT   NOT NULL, -- of the cluster; '' in these four: the role may not read it
    timeline     TEXT   NOT NULL, -- of its write-ahead log: another one after each promotion and point-in-time recovery
    database_oid TEXT   NOT NULL,
    table_oid    TEXT   NOT NULL, -- of event_heads
    written_by   BIGINT NOT NULL, -- the transaction that wrote the row: what was dumped and restored was written by another
    renewed_at   BIGINT NOT NULL  -- by the database's clock
);

-- +goose Down
DROP TABLE event_log_place;
