-- +goose Up
-- A phone's history can have thousands of files. They are fetched behind those that
-- come in now.
ALTER TABLE media ADD COLUMN imported BOOLEAN NOT NULL DEFAULT FALSE;
DROP INDEX media_pending;
CREATE INDEX media_pending ON media (channel_id, imported, next_attempt_at) WHERE state = 'pending';

-- +goose Down
DROP INDEX media_pending;
CREATE INDEX media_pending ON media (channel_id, next_attempt_at) WHERE state = 'pending';
ALTER TABLE media DROP COLUMN imported;
