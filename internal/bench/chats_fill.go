package bench

import (
	"context"
	"database/sql"
	_ "embed"
	"fmt"
	"strconv"
	"strings"

	"switchboard/internal/store"
)

//go:embed chats.sql
var chatsFill string

// chatsSize is how much the database holds.
type chatsSize struct {
	chats, messages, long int
}

// bigOrganization has two fifths of the chats; longChat is its chat with very many messages.
const (
	bigOrganization   = 1
	smallOrganization = 2
	longChat          = 1
)

// open opens a database, filled now unless it is already.
func (size chatsSize) open(ctx context.Context, databaseURL string) (s *store.Store, err error) {
	s, err = store.Open(ctx, databaseURL, store.Options{MaxConnections: 1})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	var filled bool
	if err := s.SQL().QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM organizations)").Scan(&filled); err != nil {
		return nil, fmt.Errorf("look into the database: %w", err)
	}
	if filled {
		return s, nil
	}
	return s, size.fill(ctx, s.SQL())
}

func (size chatsSize) fill(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx) // its settings end with it
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close() }()
	script := strings.NewReplacer("{{chats}}", strconv.Itoa(size.chats), "{{rounds}}", strconv.Itoa(max(size.messages/size.chats, 1)),
		"{{long}}", strconv.Itoa(size.long)).Replace(chatsFill)
	if _, err := conn.ExecContext(ctx, script); err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	if _, err := conn.ExecContext(ctx, "RESET ALL"); err != nil {
		return fmt.Errorf("fill the database: %w", err)
	}
	if _, err := conn.ExecContext(ctx, "VACUUM (ANALYZE, FREEZE)"); err != nil {
		return fmt.Errorf("vacuum: %w", err)
	}
	return nil
}
