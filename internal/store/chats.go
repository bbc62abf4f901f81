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

const (
	// fewMatches is up to how many matches of a search or tag the list is made from the matches. If there are more,
	// the chats are walked by activity until enough of them match.
	fewMatches = 3000
	// someMatches is up to how many of them are collected before the walk, so that it compares instead of asking the
	// database for every chat. If there are more still, the walk meets enough of them so soon that asking is cheaper.
	someMatches = 12000
)

// Chats lists chats of an organization, newest activity first. The list itself
// is one query along one index; the matches of a search or a tag are counted
// first, up to someMatches of them, to know from which side to begin.
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
	if none, err := narrowToTag(db, organizationID, f.Tag, where); none || err != nil {
		return nil, err
	}
	return listChats(db, f, where)
}

// narrowToTag adds to where that the chat must have the tag, if one is wanted; none says that no chat has it.
func narrowToTag(db *gorm.DB, organizationID int64, tag string, where *conditions) (none bool, err error) {
	if tag == "" {
		return false, nil
	}
	query := &conditions{}
	query.add("SELECT g.chat_id AS id FROM chat_tags g WHERE g.organization_id = ?", organizationID)
	query.add("g.tag = ?", tag)
	found, err := match(db, query)
	switch {
	case err != nil || found.rows == 0:
		return true, err
	case found.few():
		where.in(db, "c.id", found.ids)
	case found.some():
		where.inSome("c.id", query)
	default:
		where.exists("FROM chat_tags g WHERE g.organization_id = ? AND g.tag = ? AND g.chat_id = c.id", organizationID, tag)
	}
	return false, nil
}

// narrowToWords adds to where that the contact must match every word. It begins with the contacts of a word that has few, if
// one has, or else with those that have all the words; none says that nobody matches.
func narrowToWords(db *gorm.DB, organizationID int64, words []prefixes, where *conditions) (none bool, err error) {
	if len(words) == 0 {
		return false, nil
	}
	queries := make([]*conditions, len(words))
	var found matching
	for i, word := range words {
		queries[i] = &conditions{}
		queries[i].add("SELECT t.contact_id AS id FROM contact_terms t WHERE t.organization_id = ?", organizationID)
		queries[i].add(word.condition(), word.args()...)
		if found, err = match(db, queries[i]); err != nil || found.rows == 0 {
			return true, err
		}
		if found.few() {
			where.in(db, "c.contact_id", found.ids)
			where.wordsExist(slices.Delete(slices.Clone(words), i, i+1))
			return false, nil
		}
	}
	all := queries[0]
	if len(queries) > 1 {
		all = intersection(queries)
		if found, err = match(db, all); err != nil || found.rows == 0 {
			return true, err
		}
	}
	switch {
	case found.few():
		where.in(db, "c.contact_id", found.ids)
	case found.some():
		where.inSome("c.contact_id", all)
	default:
		where.wordsExist(words)
	}
	return false, nil
}

// intersection are the ids that all queries find.
func intersection(queries []*conditions) *conditions {
	all := &conditions{}
	texts := make([]string, len(queries))
	for i, query := range queries {
		texts[i] = query.String()
		all.args = append(all.args, query.args...)
	}
	all.parts = []string{strings.Join(texts, " INTERSECT ")}
	return all
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

// in adds that column is one of ids. To PostgreSQL they go as one parameter: the statement is the same whatever they are, and
// stays prepared. SQLite, which has no arrays, gets them as text, for which it has no limit.
func (c *conditions) in(db *gorm.DB, column string, ids []int64) {
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = strconv.FormatInt(id, 10)
	}
	list := strings.Join(texts, ",")
	if db.Name() == string(postgresDialect) {
		c.add(column+" = ANY(?::bigint[])", "{"+list+"}")
		return
	}
	c.add(column + " IN (" + list + ")")
}

// inSome adds that column is one of the ids that the query finds, which are not more than someMatches. Neither an EXISTS
// nor a plain IN: for those PostgreSQL may join, sort all that matches, or start parallel workers for a page of chats. The
// limit keeps it sure that the ids fit into a hash table.
func (c *conditions) inSome(column string, query *conditions) {
	c.add("("+column+" IN (SELECT s.id FROM ("+query.String()+") s LIMIT "+strconv.Itoa(someMatches)+")) IS TRUE", query.args...)
}

// wordsExist adds that the contact has each of the words, asked chat by chat.
func (c *conditions) wordsExist(words []prefixes) {
	for _, word := range words {
		c.exists("FROM contact_terms t WHERE t.contact_id = c.contact_id AND "+word.condition(), word.args()...)
	}
}

// matching is what a search or a tag finds.
type matching struct {
	rows int     // up to someMatches + 1
	ids  []int64 // all of them, if they are few
}

func (m matching) few() bool  { return m.rows <= fewMatches }
func (m matching) some() bool { return m.rows <= someMatches }

// match runs a query for the ids of those that match.
func match(db *gorm.DB, query *conditions) (matching, error) {
	var rows []struct {
		Found int
		ID    *int64
	}
	text := "WITH matched AS MATERIALIZED (SELECT s.id FROM (" + query.String() + ") s LIMIT " + strconv.Itoa(someMatches+1) + "), " +
		"counted AS (SELECT COUNT(*) AS found FROM matched) " +
		"SELECT counted.found, matched.id FROM counted LEFT JOIN matched ON counted.found <= " + strconv.Itoa(fewMatches)
	if err := db.Raw(text, query.args...).Scan(&rows).Error; err != nil {
		return matching{}, fmt.Errorf("search chats: %w", err)
	}
	found := matching{}
	for _, row := range rows {
		found.rows = row.Found
		if row.ID != nil {
			found.ids = append(found.ids, *row.ID)
		}
	}
	return found, nil
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
	if err := tx.dropCommands("k.chat_id = ? AND k.organization_id = ?", id, tx.organizationID); err != nil {
		return err
	}
	// A file that was uploaded once may be part of messages in several chats: of two
	// who let go of it at once the second one sees what the first has done.
	err := tx.db.Exec("SELECT 1 FROM media WHERE id IN (SELECT m.media_id FROM messages m WHERE m.chat_id = ? AND m.media_id IS NOT NULL) ORDER BY id"+
		tx.forUpdate(), id).Error
	if err != nil {
		return fmt.Errorf("lock the files of chat %d: %w", id, err)
	}
	err = tx.db.Exec(`UPDATE media SET state = 'deleted', provider_ref = '', filename = '', message_id = NULL
		WHERE organization_id = ? AND id IN (SELECT m.media_id FROM messages m WHERE m.chat_id = ? AND m.media_id IS NOT NULL)
			AND NOT EXISTS (SELECT 1 FROM messages o WHERE o.media_id = media.id AND o.chat_id <> ?)
			AND NOT EXISTS (SELECT 1 FROM message_seen s WHERE s.media_id = media.id)`, tx.organizationID, id, id).Error
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
