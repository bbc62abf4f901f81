package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm"

	"switchboard/internal/domain"
)

// ChatFilter says which chats a list holds; the zero value is all of them.
type ChatFilter struct {
	Status domain.ChatStatus
	// AssigneeID 0 means nobody's.
	AssigneeID *int64
	ChannelID  int64
	Unread     *bool
	Tag        string
	// Query is words that the contact's name, user name or phone number
	// begins with (a phone number also: ends with), all of them.
	Query string
	// After is where the page before ended.
	After *ChatPosition
	// Limit is the most chats to return, at least 1.
	Limit int
}

// ChatPosition is the place of a chat in a list: newest activity first.
type ChatPosition struct {
	ActivityAt domain.Time `json:"at"`
	ID         int64       `json:"id"`
}

// ListedChat is a chat and its place in the list.
type ListedChat struct {
	Chat     domain.Chat
	Position ChatPosition
}

// fewMatches is up to how many matches of a search or tag the list is made
// from the matches; if there are more, walking the chats by activity meets
// enough of them soon.
const fewMatches = 3000

// Chats lists chats of an organization, newest activity first. The list itself
// is one query along one index; the matches of a search or a tag are looked at
// first, up to fewMatches of them, to know from which side to begin.
func (s *Store) Chats(ctx context.Context, organizationID int64, f ChatFilter) ([]ListedChat, error) {
	db := s.db.WithContext(ctx)
	where := chatConditions(organizationID, f)
	words := queryPrefixes(f.Query)
	if len(words) == 0 && strings.TrimSpace(f.Query) != "" {
		return nil, nil // nothing but punctuation: no name has that
	}
	if none, err := narrowToWords(db, organizationID, words, where); none || err != nil {
		return nil, err
	}
	if f.Tag != "" {
		query := &conditions{}
		query.add("SELECT g.chat_id FROM chat_tags g WHERE g.organization_id = ? AND g.tag = ?", organizationID, f.Tag)
		ids, few, err := matches(db, query)
		if err != nil || few && len(ids) == 0 {
			return nil, err
		}
		if few {
			where.in("c.id", ids)
		} else {
			where.exists("FROM chat_tags g WHERE g.organization_id = ? AND g.tag = ? AND g.chat_id = c.id", organizationID, f.Tag)
		}
	}
	return listChats(db, f, where)
}

// narrowToWords adds to where that the contact must match every word. It begins with the contacts of a word that has few, if
// one has; none says that nobody matches.
func narrowToWords(db *gorm.DB, organizationID int64, words []prefixes, where *conditions) (none bool, err error) {
	for i, word := range words {
		query := &conditions{}
		query.add("SELECT t.contact_id FROM contact_terms t WHERE t.organization_id = ?", organizationID)
		query.add(word.condition(), word.args()...)
		ids, few, err := matches(db, query)
		if err != nil || few && len(ids) == 0 {
			return true, err
		}
		if few {
			where.in("c.contact_id", ids)
			words = slices.Delete(slices.Clone(words), i, i+1)
			break
		}
	}
	for _, word := range words {
		where.exists("FROM contact_terms t WHERE t.contact_id = c.contact_id AND "+word.condition(), word.args()...)
	}
	return false, nil
}

// conditions is a piece of SQL and its arguments.
type conditions struct {
	parts []string
	args  []any
}

func (c *conditions) add(part string, args ...any) {
	c.parts = append(c.parts, part)
	c.args = append(c.args, args...)
}

func (c *conditions) String() string { return strings.Join(c.parts, " AND ") }

// exists adds that a subquery, from its FROM on, finds something. It is asked row by row: with EXISTS the planner may
// collect all that it finds first, which takes a second where it is much.
func (c *conditions) exists(query string, args ...any) {
	c.add("(SELECT 1 "+query+" LIMIT 1) IS NOT NULL", args...)
}

// in adds that column is one of ids. They are ours, not the caller's: as text they cost no parameters, and the statement,
// different each time, gets a plan of its own.
func (c *conditions) in(column string, ids []int64) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatInt(id, 10)
	}
	c.add(column + " IN (" + strings.Join(texts, ",") + ")")
}

// matches runs a query for ids. few says that these are all of them.
func matches(db *gorm.DB, query *conditions) (ids []int64, few bool, err error) {
	err = db.Raw(query.String()+" LIMIT "+strconv.Itoa(fewMatches+1), query.args...).Scan(&ids).Error
	if err != nil {
		return nil, false, fmt.Errorf("search chats: %w", err)
	}
	return ids, len(ids) <= fewMatches, nil
}

func (p prefixes) condition() string {
	one := "(t.term >= ? AND t.term < ?)"
	return "(" + strings.Repeat(one+" OR ", len(p)-1) + one + ")"
}

func (p prefixes) args() []any {
	args := make([]any, 0, 2*len(p))
	for _, prefix := range p {
		args = append(args, prefix, prefix+afterPrefix)
	}
	return args
}

func chatConditions(organizationID int64, f ChatFilter) *conditions {
	where := &conditions{}
	where.add("c.organization_id = ?", organizationID)
	if f.AssigneeID != nil {
		where.add("COALESCE(c.assignee_id, 0) = ?", *f.AssigneeID)
	}
	if f.ChannelID != 0 {
		where.add("c.channel_id = ?", f.ChannelID)
	}
	switch {
	case f.Unread == nil:
	case *f.Unread:
		where.add("c.unread_count > 0") // literally, as in the partial index
	default:
		where.add("c.unread_count = 0")
	}
	if f.After != nil {
		where.add("(c.activity_at, c.id) < (?, ?)", f.After.ActivityAt, f.After.ID)
	}
	return where
}

// listChats runs the list's one query. Limits are part of its text: a planner that does not see them prefers to sort.
func listChats(db *gorm.DB, f ChatFilter, where *conditions) ([]ListedChat, error) {
	order := " ORDER BY c.activity_at DESC, c.id DESC LIMIT " + strconv.Itoa(max(f.Limit, 1))
	base := "SELECT c.* FROM chats c WHERE " + where.String()
	args := where.args
	var inner string
	switch {
	case f.Status != "":
		inner, args = base+" AND c.status = ?"+order, append(args, f.Status)
	case f.AssigneeID != nil || f.ChannelID != 0:
		// Those indexes have the status before the time: take the newest of each status and merge.
		statuses := []domain.ChatStatus{domain.ChatOpen, domain.ChatPending, domain.ChatResolved}
		each := make([]string, len(statuses))
		args = nil
		for i, status := range statuses {
			each[i] = "SELECT * FROM (" + base + " AND c.status = ?" + order + ") s" + strconv.Itoa(i)
			args = append(append(args, where.args...), status)
		}
		inner = "SELECT c.* FROM (" + strings.Join(each, " UNION ALL ") + ") c" + order
	default:
		inner = base + order
	}
	var rows []chatRow
	err := db.Raw("SELECT "+chatColumns+" FROM ("+inner+") c JOIN contacts p ON p.id = c.contact_id ORDER BY c.activity_at DESC, c.id DESC",
		args...).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list chats: %w", err)
	}
	chats := make([]ListedChat, len(rows))
	for i, r := range rows {
		chats[i] = ListedChat{Chat: r.chat(), Position: ChatPosition{ActivityAt: r.ActivityAt, ID: r.ID}}
	}
	return chats, nil
}

// Chat returns a chat of an organization, or domain.NotFound.
func (s *Store) Chat(ctx context.Context, organizationID, id int64) (domain.Chat, error) {
	return readChat(s.db.WithContext(ctx), organizationID, id)
}

// Chat returns a chat of the organization, or domain.NotFound.
func (tx *Tx) Chat(id int64) (domain.Chat, error) { return readChat(tx.db, tx.organizationID, id) }

// LockChat is Chat, and keeps others from changing the chat until the commit. Whoever tells of a chat that it did not
// change itself must lock it: else what it tells may be older than what another transaction told before.
func (tx *Tx) LockChat(id int64) (domain.Chat, error) {
	if tx.store.Postgres() {
		// A statement of its own: one that waits for a lock would see the row's contact as it was before the wait.
		// Not FOR UPDATE, which inserts of messages would wait for.
		err := tx.db.Exec("SELECT 1 FROM chats WHERE id = ? AND organization_id = ? FOR NO KEY UPDATE", id, tx.organizationID).Error
		if err != nil {
			return domain.Chat{}, fmt.Errorf("lock chat %d: %w", id, err)
		}
	}
	return tx.Chat(id)
}

func readChat(db *gorm.DB, organizationID, id int64) (domain.Chat, error) {
	var row chatRow
	err := db.Raw("SELECT "+chatColumns+" FROM chats c JOIN contacts p ON p.id = c.contact_id WHERE c.id = ? AND c.organization_id = ?",
		id, organizationID).Scan(&row).Error
	if err != nil {
		return domain.Chat{}, fmt.Errorf("read chat %d: %w", id, err)
	}
	if row.ID == 0 {
		return domain.Chat{}, domain.NotFound("chat")
	}
	return row.chat(), nil
}

// SaveChat writes the status, assignee and tags of a locked chat.
func (tx *Tx) SaveChat(chat domain.Chat) error {
	tags, err := json.Marshal(chat.Tags)
	if err != nil {
		return fmt.Errorf("encode tags: %w", err)
	}
	err = tx.db.Exec("UPDATE chats SET status = ?, assignee_id = ?, tags = ?, updated_at = ? WHERE id = ? AND organization_id = ?",
		chat.Status, chat.AssigneeID, string(tags), tx.now, chat.ID, tx.organizationID).Error
	if err != nil {
		return fmt.Errorf("save chat %d: %w", chat.ID, err)
	}
	if err := tx.db.Exec("DELETE FROM chat_tags WHERE chat_id = ? AND organization_id = ?", chat.ID, tx.organizationID).Error; err != nil {
		return fmt.Errorf("save the tags of chat %d: %w", chat.ID, err)
	}
	for _, tag := range chat.Tags {
		err := tx.db.Exec("INSERT INTO chat_tags (organization_id, tag, chat_id) VALUES (?, ?, ?)", tx.organizationID, tag, chat.ID).Error
		if err != nil {
			return fmt.Errorf("save the tags of chat %d: %w", chat.ID, err)
		}
	}
	return nil
}

// DeleteChat removes a chat with all that hangs on it. The rows of its files stay behind, marked as deleted, until
// somebody has removed their bytes (DeletedMedia).
func (tx *Tx) DeleteChat(id int64) error {
	// A file that was uploaded once may be part of messages in several chats.
	err := tx.db.Exec(`UPDATE media SET state = 'deleted', provider_ref = '', filename = '', message_id = NULL
		WHERE organization_id = ? AND id IN (SELECT m.media_id FROM messages m WHERE m.chat_id = ? AND m.media_id IS NOT NULL)
			AND NOT EXISTS (SELECT 1 FROM messages o WHERE o.media_id = media.id AND o.chat_id <> ?)`, tx.organizationID, id, id).Error
	if err != nil {
		return fmt.Errorf("mark the files of chat %d: %w", id, err)
	}
	if err := tx.db.Exec("DELETE FROM chats WHERE id = ? AND organization_id = ?", id, tx.organizationID).Error; err != nil {
		return fmt.Errorf("delete chat %d: %w", id, err)
	}
	return nil
}

// Starting is the channel on which somebody wants to start a chat.
type Starting struct {
	Kind    domain.ChannelKind
	Enabled bool
}

// StartingChannel looks up a channel of the organization, or domain.NotFound.
func (tx *Tx) StartingChannel(channelID int64) (Starting, error) {
	var row Starting
	err := tx.db.Raw("SELECT kind, enabled FROM channels WHERE id = ? AND organization_id = ? AND deleted_at IS NULL",
		channelID, tx.organizationID).Scan(&row).Error
	if err != nil {
		return row, fmt.Errorf("look up channel %d: %w", channelID, err)
	}
	if row.Kind == "" {
		return row, domain.NotFound("channel")
	}
	return row, nil
}

// ActiveUserName returns the name of an active user of the organization; found is false when there is none.
func (tx *Tx) ActiveUserName(userID int64) (name string, found bool, err error) {
	var row struct {
		ID   int64
		Name string
	}
	err = tx.db.Raw("SELECT id, name FROM users WHERE id = ? AND organization_id = ? AND active", userID, tx.organizationID).Scan(&row).Error
	if err != nil {
		return "", false, fmt.Errorf("look up user %d: %w", userID, err)
	}
	return row.Name, row.ID != 0, nil
}
