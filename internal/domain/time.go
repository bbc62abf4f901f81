package domain

import (
	"fmt"
	"time"
)

// timeLayout is RFC 3339 in UTC with exactly three decimals: the only form in
// which Switchboard writes a time.
const timeLayout = "2006-01-02T15:04:05.000Z"

// Time is an instant with millisecond precision, as Unix milliseconds. The
// zero value means "not known". It is a number so that two times that are
// equal in JSON are equal in the database and in a cursor too.
type Time int64

// At converts t, cutting below the millisecond.
func At(t time.Time) Time { return Time(t.UnixMilli()) }

// Std converts to the standard library's type, in UTC.
func (t Time) Std() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Add returns t+d, cutting below the millisecond.
func (t Time) Add(d time.Duration) Time { return t + Time(d.Milliseconds()) }

// Ptr is nil for the zero time and a pointer to a copy otherwise, for optional
// fields in JSON.
func (t Time) Ptr() *Time {
	if t == 0 {
		return nil
	}
	return &t
}

func (t Time) String() string { return t.Std().Format(timeLayout) }

// MarshalText writes RFC 3339 UTC with milliseconds.
func (t Time) MarshalText() ([]byte, error) {
	return t.Std().AppendFormat(make([]byte, 0, len(timeLayout)), timeLayout), nil
}

// UnmarshalText reads any RFC 3339 time.
func (t *Time) UnmarshalText(text []byte) error {
	parsed, err := time.Parse(time.RFC3339Nano, string(text))
	if err != nil {
		return fmt.Errorf("a time such as 2026-01-31T12:00:00.000Z is wanted: %w", err)
	}
	*t = At(parsed)
	return nil
}
