package waba

import (
	"bytes"
	"testing"
)

// The worst that an unsigned body may cost before it is refused.
func BenchmarkPhoneNumberIDs(b *testing.B) {
	body := append([]byte(`{"entry":[`), bytes.Repeat([]byte("0,"), (MaxWebhookBytes-20)/2)...)
	body = append(body, "0]}"...)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := PhoneNumberIDs(body); err != nil {
			b.Fatal(err)
		}
	}
}
