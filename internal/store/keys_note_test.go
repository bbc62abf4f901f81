package store

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
)

// A time-out of the database is a failure: it has the same error as a caller who
// has waited enough, and only the caller's context tells them apart.
func TestWhatIsAFailureOfKeys(t *testing.T) {
	t.Parallel()
	k := &Keys{}
	var told []error
	k.OnFailure(func(err error) { told = append(told, err) })
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, quiet := range []error{nil, sql.ErrNoRows, io.EOF} {
		assert.Equal(t, quiet, k.note(t.Context(), quiet))
	}
	assert.Error(t, k.note(over, context.Canceled))
	assert.Empty(t, told)
	for _, failure := range []error{context.DeadlineExceeded, context.Canceled, errors.New("broken"), ErrLeaseLost} {
		assert.ErrorIs(t, k.note(t.Context(), failure), failure)
	}
	assert.Len(t, told, 4)
}
