package store

import (
	"context"
	"fmt"
)

// isOneOf is the condition that a column's text is in a list, which is given as
// JSON: the statement stays the same whatever is asked for.
func (s *Store) isOneOf(column string) string {
	if s.Postgres() {
		return column + " = ANY (ARRAY(SELECT json_array_elements_text(CAST(? AS json))))"
	}
	return column + " IN (SELECT value FROM json_each(?))"
}

// IntakePosition returns how far the intake of a channel has come: what
// SetIntakePosition last committed, empty at first.
func (s *Store) IntakePosition(ctx context.Context, channelID int64) (string, error) {
	var position string
	err := s.db.WithContext(ctx).Raw("SELECT position FROM intakes WHERE channel_id = ?", channelID).Scan(&position).Error
	if err != nil {
		return "", fmt.Errorf("read the intake position of channel %d: %w", channelID, err)
	}
	return position, nil
}

// SetIntakePosition remembers how far the intake of a channel has come,
// together with what the transaction stores.
func (tx *Tx) SetIntakePosition(channelID int64, position string) error {
	err := tx.db.Exec(`INSERT INTO intakes (channel_id, position, updated_at) VALUES (?, ?, ?)
		ON CONFLICT (channel_id) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at`,
		channelID, position, tx.now).Error
	if err != nil {
		return fmt.Errorf("set the intake position of channel %d: %w", channelID, err)
	}
	return nil
}
