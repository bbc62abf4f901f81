-- +goose Up
-- What there was before a reaction, an edit or a revocation of ours that waits for
-- the provider's word: what the provider refuses must not be lost.
ALTER TABLE commands ADD COLUMN undo_content TEXT;
ALTER TABLE commands ADD COLUMN undo_media_id BIGINT;
ALTER TABLE commands ADD COLUMN undo_location TEXT;
ALTER TABLE commands ADD COLUMN undo_edited_at BIGINT;
CREATE INDEX commands_undo_media ON commands (undo_media_id) WHERE undo_media_id IS NOT NULL;

-- +goose Down
DROP INDEX commands_undo_media;
ALTER TABLE commands DROP COLUMN undo_content;
ALTER TABLE commands DROP COLUMN undo_media_id;
ALTER TABLE commands DROP COLUMN undo_location;
ALTER TABLE commands DROP COLUMN undo_edited_at;
