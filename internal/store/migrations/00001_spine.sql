-- +goose Up
-- One schema for PostgreSQL and SQLite. Words in double braces are the few
-- places where the two differ (migrate.go fills them in). Columns named *_at,
-- provider_time and *_until are Unix milliseconds, UTC.

CREATE TABLE organizations (
    id            {{id}},
    name          TEXT   NOT NULL,
    ticket_count  BIGINT NOT NULL DEFAULT 0, -- the last ticket number given
    created_at    BIGINT NOT NULL
);

-- The head of each organization's event log. A row of its own, without
-- indexed columns other than its key, since every change increments it.
CREATE TABLE event_heads (
    organization_id BIGINT PRIMARY KEY REFERENCES organizations (id) ON DELETE CASCADE,
    epoch           TEXT   NOT NULL,           -- changes when the log starts anew
    seq             BIGINT NOT NULL DEFAULT 0, -- the last seq given
    oldest_seq      BIGINT NOT NULL DEFAULT 1  -- what retention has left
){{fillfactor}};

CREATE TABLE events (
    organization_id BIGINT NOT NULL,
    seq             BIGINT NOT NULL,
    name            TEXT   NOT NULL,
    data            TEXT   NOT NULL, -- JSON, exactly as it goes to sockets
    at              BIGINT NOT NULL,
    PRIMARY KEY (organization_id, seq)
);
CREATE INDEX events_at ON events (organization_id, at);

CREATE TABLE users (
    id              {{id}},
    organization_id BIGINT  NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name            TEXT    NOT NULL,
    email           TEXT    NOT NULL UNIQUE, -- lower case
    password_hash   TEXT    NOT NULL,
    role            TEXT    NOT NULL,
    active          BOOLEAN NOT NULL,
    created_at      BIGINT  NOT NULL,
    updated_at      BIGINT  NOT NULL
);
CREATE INDEX users_organization ON users (organization_id, id);

-- A sign-in: the family of refresh tokens that descend from one login.
CREATE TABLE sessions (
    id         TEXT   PRIMARY KEY,
    user_id    BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE refresh_tokens (
    token_hash {{bytes}} PRIMARY KEY,
    session_id TEXT   NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL,
    used_at    BIGINT
);
CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);

CREATE TABLE api_keys (
    id              {{id}},
    organization_id BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    user_id         BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE, -- in whose name it acts
    name            TEXT   NOT NULL,
    role            TEXT   NOT NULL,
    prefix          TEXT   NOT NULL,
    key_hash        {{bytes}} NOT NULL UNIQUE,
    last_used_at    BIGINT,
    created_at      BIGINT NOT NULL
);
CREATE INDEX api_keys_organization ON api_keys (organization_id, id);

CREATE TABLE channels (
    id              {{id}},
    organization_id BIGINT  NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    kind            TEXT    NOT NULL,
    name            TEXT    NOT NULL,
    config          TEXT    NOT NULL, -- JSON object of what is not secret
    secrets         {{bytes}},        -- sealed JSON object
    -- Who the channel is at the provider (phone_number_id, bot id): one
    -- channel each, so that a webhook has one destination.
    external_key    TEXT,
    verify_hash     {{bytes}},        -- SHA-256 of a webhook's verify token
    enabled         BOOLEAN NOT NULL, -- a worker shall run it
    state           TEXT    NOT NULL,
    state_code      TEXT    NOT NULL DEFAULT '',
    state_reason    TEXT    NOT NULL DEFAULT '',
    state_since     BIGINT  NOT NULL,
    state_worker    TEXT    NOT NULL DEFAULT '',
    config_version  BIGINT  NOT NULL DEFAULT 1, -- a running session of an older one is restarted
    created_at      BIGINT  NOT NULL,
    updated_at      BIGINT  NOT NULL,
    deleted_at      BIGINT -- chats stay readable; nothing is sent or received any more
);
CREATE INDEX channels_organization ON channels (organization_id, id);
CREATE UNIQUE INDEX channels_external ON channels (kind, external_key) WHERE external_key IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX channels_verify ON channels (verify_hash) WHERE verify_hash IS NOT NULL;

-- Who runs a channel. A row exists once a channel was first taken; the term
-- rises with every change of owner and is what a late writer is refused by.
CREATE TABLE leases (
    channel_id BIGINT PRIMARY KEY REFERENCES channels (id) ON DELETE CASCADE,
    worker_id  TEXT   NOT NULL,
    term       BIGINT NOT NULL,
    expires_at BIGINT NOT NULL -- by the database's clock
);
CREATE INDEX leases_worker ON leases (worker_id);

CREATE TABLE contacts (
    id              {{id}},
    organization_id BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    name            TEXT   NOT NULL DEFAULT '',
    phone           TEXT   NOT NULL DEFAULT '',
    username        TEXT   NOT NULL DEFAULT '',
    avatar_url      TEXT   NOT NULL DEFAULT '',
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);

-- One person is one contact: every name under which a provider knows somebody.
CREATE TABLE identities (
    organization_id BIGINT NOT NULL,
    kind            TEXT   NOT NULL,
    value           TEXT   NOT NULL,
    contact_id      BIGINT NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
    PRIMARY KEY (organization_id, kind, value)
);
CREATE INDEX identities_contact ON identities (contact_id);

-- What a contact is found by: the words of the name, the user name, the phone
-- number from both ends. Looked up by prefix.
CREATE TABLE contact_terms (
    organization_id BIGINT NOT NULL,
    term            TEXT{{binary}} NOT NULL,
    contact_id      BIGINT NOT NULL REFERENCES contacts (id) ON DELETE CASCADE,
    PRIMARY KEY (organization_id, term, contact_id)
);
CREATE INDEX contact_terms_contact ON contact_terms (contact_id, term);

CREATE TABLE chats (
    id              {{id}},
    organization_id BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    channel_id      BIGINT NOT NULL REFERENCES channels (id),
    channel_kind    TEXT   NOT NULL,
    kind            TEXT   NOT NULL,
    peer            TEXT   NOT NULL, -- the chat's address on the provider's network
    contact_id      BIGINT NOT NULL REFERENCES contacts (id),
    status          TEXT   NOT NULL,
    assignee_id     BIGINT REFERENCES users (id) ON DELETE SET NULL,
    unread_count    BIGINT NOT NULL DEFAULT 0,
    tags            TEXT   NOT NULL DEFAULT '[]', -- JSON array; chat_tags is its index
    ticket_id       BIGINT, -- the newest open ticket
    last_message_id      BIGINT,
    last_message_content TEXT,
    last_message_type    TEXT,
    last_message_from_me BOOLEAN,
    last_message_at      BIGINT, -- its provider_time
    last_message_created_at BIGINT,
    last_inbound_at BIGINT NOT NULL DEFAULT 0, -- provider_time of the customer's last message
    read_up_to_id   BIGINT NOT NULL DEFAULT 0,
    activity_at     BIGINT NOT NULL, -- what lists are ordered by
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
){{fillfactor}};
CREATE UNIQUE INDEX chats_peer ON chats (channel_id, peer);
CREATE INDEX chats_activity ON chats (organization_id, activity_at, id);
CREATE INDEX chats_status ON chats (organization_id, status, activity_at, id);
-- Nobody is 0 here: PostgreSQL does not take "IS NULL" for an equality, and would
-- sort. The status stands before the time, so that one operator's open chats are
-- not looked for among thousands of resolved ones; a list of all statuses merges three.
CREATE INDEX chats_assignee ON chats (organization_id, COALESCE(assignee_id, 0), status, activity_at, id);
CREATE INDEX chats_channel ON chats (organization_id, channel_id, status, activity_at, id);
CREATE INDEX chats_unread ON chats (organization_id, activity_at, id) WHERE unread_count > 0;
CREATE INDEX chats_contact ON chats (contact_id);

CREATE TABLE chat_tags (
    organization_id BIGINT NOT NULL,
    tag             TEXT   NOT NULL,
    chat_id         BIGINT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    PRIMARY KEY (organization_id, tag, chat_id)
);
CREATE INDEX chat_tags_chat ON chat_tags (chat_id);

CREATE TABLE media (
    id              {{id}},
    organization_id BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    channel_id      BIGINT, -- set for files that a provider holds for us
    message_id      BIGINT,
    mime            TEXT   NOT NULL,
    size            BIGINT NOT NULL DEFAULT 0,
    filename        TEXT   NOT NULL DEFAULT '',
    width           BIGINT NOT NULL DEFAULT 0,
    height          BIGINT NOT NULL DEFAULT 0,
    duration_ms     BIGINT NOT NULL DEFAULT 0,
    sha256          TEXT   NOT NULL DEFAULT '',
    state           TEXT   NOT NULL,
    error           TEXT   NOT NULL DEFAULT '',
    blob_key        TEXT   NOT NULL DEFAULT '',
    provider_ref    TEXT   NOT NULL DEFAULT '',
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT NOT NULL DEFAULT 0,
    created_by      BIGINT,
    created_at      BIGINT NOT NULL
);
CREATE INDEX media_pending ON media (channel_id, next_attempt_at) WHERE state = 'pending';
CREATE INDEX media_message ON media (message_id);
-- Files whose chat is gone: the row stays until the blob is removed.
CREATE INDEX media_deleted ON media (id) WHERE state = 'deleted';

CREATE TABLE messages (
    id                {{id}},
    organization_id   BIGINT  NOT NULL,
    chat_id           BIGINT  NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    channel_id        BIGINT  NOT NULL,
    channel_kind      TEXT    NOT NULL,
    type              TEXT    NOT NULL,
    content           TEXT    NOT NULL,
    media_id          BIGINT,
    location          TEXT, -- JSON
    template          TEXT, -- JSON
    reply_to_id          BIGINT,
    reply_to_external_id TEXT,
    from_me           BOOLEAN NOT NULL,
    sender_user_id    BIGINT,
    sender_key        TEXT    NOT NULL, -- the sender's address in a group, '' for the peer of a direct chat, 'me' for us
    sender_name       TEXT    NOT NULL,
    status            TEXT    NOT NULL,
    error_code        TEXT    NOT NULL DEFAULT '',
    error_message     TEXT    NOT NULL DEFAULT '',
    external_id       TEXT,
    client_message_id TEXT,
    attempt           BIGINT  NOT NULL DEFAULT 0, -- sends begun
    retries           BIGINT  NOT NULL DEFAULT 0, -- automatic ones since an operator last asked
    next_attempt_at   BIGINT  NOT NULL DEFAULT 0,
    sending_term      BIGINT  NOT NULL DEFAULT 0, -- the lease's term under which the last send began
    edited_at         BIGINT,
    revoked_at        BIGINT,
    provider_time     BIGINT  NOT NULL,
    created_at        BIGINT  NOT NULL
);
-- The key of "once": a redelivery meets it. It also finds the message that a
-- status speaks of.
CREATE UNIQUE INDEX messages_external ON messages (channel_id, external_id, chat_id, sender_key) WHERE external_id IS NOT NULL;
CREATE UNIQUE INDEX messages_client ON messages (organization_id, client_message_id) WHERE client_message_id IS NOT NULL;
CREATE INDEX messages_chat ON messages (chat_id, provider_time, id);
CREATE INDEX messages_media ON messages (media_id) WHERE media_id IS NOT NULL;
-- The outbox.
CREATE INDEX messages_outbox ON messages (channel_id, chat_id, id) WHERE status IN ('queued', 'sending');

CREATE TABLE reactions (
    message_id  BIGINT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    sender_key  TEXT   NOT NULL,
    emoji       TEXT   NOT NULL, -- '' remembers that it was taken away, so that an older one cannot come back
    from_me     BOOLEAN NOT NULL,
    sender_name TEXT   NOT NULL,
    reacted_at  BIGINT NOT NULL,
    PRIMARY KEY (message_id, sender_key)
);

-- Statuses, reactions, edits and revocations that came before the message
-- that they speak of.
CREATE TABLE early_updates (
    id          {{id}},
    channel_id  BIGINT NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    external_id TEXT   NOT NULL,
    payload     TEXT   NOT NULL, -- JSON of a domain.Inbound
    tries       BIGINT NOT NULL DEFAULT 0,
    created_at  BIGINT NOT NULL
);
CREATE INDEX early_updates_message ON early_updates (channel_id, external_id);
CREATE INDEX early_updates_created ON early_updates (created_at);

-- The ids of reactions, edits and revocations already applied: these make no
-- row of their own by which a redelivery could be recognised.
CREATE TABLE seen_updates (
    channel_id  BIGINT NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    external_id TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (channel_id, external_id)
);
CREATE INDEX seen_updates_created ON seen_updates (created_at);

-- Actions on the provider's side that may be repeated without harm.
CREATE TABLE commands (
    id              {{id}},
    organization_id BIGINT NOT NULL,
    channel_id      BIGINT NOT NULL REFERENCES channels (id) ON DELETE CASCADE,
    chat_id         BIGINT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    message_id      BIGINT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    kind            TEXT   NOT NULL,
    value           TEXT   NOT NULL,
    attempts        BIGINT NOT NULL DEFAULT 0,
    next_attempt_at BIGINT NOT NULL DEFAULT 0,
    created_at      BIGINT NOT NULL
);
CREATE INDEX commands_channel ON commands (channel_id, next_attempt_at, id);

CREATE TABLE tickets (
    id              {{id}},
    organization_id BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    number          BIGINT NOT NULL,
    chat_id         BIGINT NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    subject         TEXT   NOT NULL,
    priority        TEXT   NOT NULL,
    status          TEXT   NOT NULL,
    assignee_id     BIGINT REFERENCES users (id) ON DELETE SET NULL,
    created_by      BIGINT REFERENCES users (id) ON DELETE SET NULL,
    created_at      BIGINT NOT NULL,
    updated_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX tickets_number ON tickets (organization_id, number);
CREATE INDEX tickets_chat ON tickets (chat_id, id);
CREATE INDEX tickets_status ON tickets (organization_id, status, number);
CREATE INDEX tickets_assignee ON tickets (organization_id, COALESCE(assignee_id, 0), number);

CREATE TABLE notes (
    id              {{id}},
    organization_id BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    chat_id         BIGINT REFERENCES chats (id) ON DELETE CASCADE,
    ticket_id       BIGINT REFERENCES tickets (id) ON DELETE CASCADE,
    user_id         BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    content         TEXT   NOT NULL,
    created_at      BIGINT NOT NULL
);
CREATE INDEX notes_chat ON notes (chat_id, id);
CREATE INDEX notes_ticket ON notes (ticket_id, id);

CREATE TABLE notifications (
    id              {{id}},
    organization_id BIGINT NOT NULL REFERENCES organizations (id) ON DELETE CASCADE,
    user_id         BIGINT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind            TEXT   NOT NULL,
    title           TEXT   NOT NULL,
    body            TEXT   NOT NULL,
    chat_id         BIGINT,
    read_at         BIGINT,
    created_at      BIGINT NOT NULL
);
CREATE INDEX notifications_user ON notifications (user_id, id);
CREATE INDEX notifications_unread ON notifications (user_id, id) WHERE read_at IS NULL;

-- Webhooks as they came, until all that is in them is stored. A row is what
-- the 200 to the provider stands on.
CREATE TABLE webhook_deliveries (
    id            {{id}},
    kind          TEXT   NOT NULL,
    channel_ids   TEXT   NOT NULL, -- JSON array: the channels whose signature it carries
    body          {{bytes}} NOT NULL,
    received_at   BIGINT NOT NULL,
    claimed_until BIGINT NOT NULL, -- until then the node that took it works on it
    attempts      BIGINT NOT NULL DEFAULT 0,
    last_error    TEXT   NOT NULL DEFAULT ''
);
CREATE INDEX webhook_deliveries_claim ON webhook_deliveries (claimed_until);

-- Parts of webhooks that could not be processed, set aside so that the rest
-- goes on. Kept for a person to look at.
CREATE TABLE webhook_rejects (
    id              {{id}},
    organization_id BIGINT,
    channel_id      BIGINT,
    item            {{bytes}} NOT NULL,
    item_hash       {{bytes}} NOT NULL, -- SHA-256: the same item redelivered is set aside once
    error           TEXT   NOT NULL,
    created_at      BIGINT NOT NULL
);
CREATE UNIQUE INDEX webhook_rejects_item ON webhook_rejects (channel_id, item_hash);
CREATE INDEX webhook_rejects_organization ON webhook_rejects (organization_id, id);

-- +goose Down
DROP TABLE webhook_rejects;
DROP TABLE webhook_deliveries;
DROP TABLE notifications;
DROP TABLE notes;
DROP TABLE tickets;
DROP TABLE commands;
DROP TABLE seen_updates;
DROP TABLE early_updates;
DROP TABLE reactions;
DROP TABLE messages;
DROP TABLE media;
DROP TABLE chat_tags;
DROP TABLE chats;
DROP TABLE contact_terms;
DROP TABLE identities;
DROP TABLE contacts;
DROP TABLE leases;
DROP TABLE channels;
DROP TABLE api_keys;
DROP TABLE refresh_tokens;
DROP TABLE sessions;
DROP TABLE users;
DROP TABLE events;
DROP TABLE event_heads;
DROP TABLE organizations;
