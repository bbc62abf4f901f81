-- +goose Up
-- Channels that are linked to a phone.
ALTER TABLE channels ADD COLUMN device TEXT NOT NULL DEFAULT ''; -- the linked device at the provider
ALTER TABLE channels ADD COLUMN linking_user_id BIGINT;          -- the admin who asked for the link, and alone sees its QR code
ALTER TABLE channels ADD COLUMN unlink BOOLEAN NOT NULL DEFAULT FALSE; -- the next session ends the link

-- The QR code on show, sealed: whoever reads it can take the number over.
CREATE TABLE link_codes (
    channel_id BIGINT PRIMARY KEY REFERENCES channels (id) ON DELETE CASCADE,
    user_id    BIGINT    NOT NULL, -- who may see it
    code       {{bytes}} NOT NULL,
    expires_at BIGINT    NOT NULL
);

-- Questions to the session of a channel, which its worker answers while
-- somebody waits (inbox.Ask). They live for seconds.
CREATE TABLE session_requests (
    id         {{id}},
    channel_id BIGINT  NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    kind       TEXT    NOT NULL,
    argument   TEXT    NOT NULL,
    done       BOOLEAN NOT NULL DEFAULT FALSE,
    answer     TEXT    NOT NULL DEFAULT '', -- JSON
    expires_at BIGINT  NOT NULL             -- by the database's clock
);
CREATE INDEX session_requests_open ON session_requests (channel_id, id) WHERE NOT done;

-- A person's two addresses on WhatsApp, as each linked device learned them: what
-- one organization knows of a hidden number is nobody else's.
CREATE TABLE whatsapp_lids (
    device TEXT NOT NULL,
    lid    TEXT NOT NULL,
    pn     TEXT NOT NULL,
    PRIMARY KEY (device, lid)
);
CREATE UNIQUE INDEX whatsapp_lids_pn ON whatsapp_lids (device, pn);

-- Messages that could not be read when they came; a later one fills them in.
ALTER TABLE messages ADD COLUMN placeholder BOOLEAN NOT NULL DEFAULT FALSE;

-- Pictures of contacts.
ALTER TABLE contacts ADD COLUMN picture_id TEXT NOT NULL DEFAULT ''; -- the provider's, changes with the picture
ALTER TABLE contacts ADD COLUMN picture_media_id BIGINT;            -- the file on show
ALTER TABLE media ADD COLUMN contact_id BIGINT;                     -- whose picture it is
CREATE INDEX media_contact ON media (contact_id) WHERE contact_id IS NOT NULL;

-- +goose Down
DROP INDEX media_contact;
ALTER TABLE media DROP COLUMN contact_id;
ALTER TABLE contacts DROP COLUMN picture_media_id;
ALTER TABLE contacts DROP COLUMN picture_id;
ALTER TABLE messages DROP COLUMN placeholder;
DROP TABLE whatsapp_lids;
DROP TABLE session_requests;
DROP TABLE link_codes;
ALTER TABLE channels DROP COLUMN unlink;
ALTER TABLE channels DROP COLUMN linking_user_id;
ALTER TABLE channels DROP COLUMN device;
