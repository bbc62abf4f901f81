-- +goose Up
-- Whether the worker that shows a channel's state tries again by itself. When that
-- worker is gone nobody does, and the state must not go on saying so; one that
-- waits for an admin keeps its reason.
ALTER TABLE channels ADD COLUMN state_retries BOOLEAN NOT NULL DEFAULT FALSE;

-- +goose Down
ALTER TABLE channels DROP COLUMN state_retries;
