package realtime

import (
	"time"

	"switchboard/internal/domain"
)

// ring holds the newest frames of an organization, oldest first and without gaps, bounded by number, bytes and age. It
// belongs to the feed's goroutine.
type ring struct {
	limits Limits
	frames []*frame
	bytes  int
}

// push appends the frame that follows the last one.
func (r *ring) push(f *frame) {
	r.frames = append(r.frames, f)
	r.bytes += f.size()
	r.trim()
}

// prepend puts older frames before the first one, as many as there is room for. The last of them must be the
// predecessor of the first in the ring, unless the ring is empty.
func (r *ring) prepend(older []*frame) {
	r.frames = append(append(make([]*frame, 0, len(older)+len(r.frames)), older...), r.frames...)
	for _, f := range older {
		r.bytes += f.size()
	}
	r.trim()
}

func (r *ring) trim() {
	drop := 0
	for bytes := r.bytes; drop < len(r.frames) && (len(r.frames)-drop > r.limits.RingEvents || bytes > r.limits.RingBytes); drop++ {
		bytes -= r.frames[drop].size()
	}
	r.drop(drop)
}

// expire drops what is too old to be asked for by a socket that was only briefly away.
func (r *ring) expire(now time.Time) {
	oldest := domain.At(now.Add(-r.limits.RingAge))
	drop := 0
	for drop < len(r.frames) && r.frames[drop].at < oldest {
		drop++
	}
	r.drop(drop)
}

func (r *ring) drop(n int) {
	if n == 0 {
		return
	}
	for i, f := range r.frames[:n] {
		r.bytes -= f.size()
		r.frames[i] = nil // the array lives on until append replaces it
	}
	r.frames = r.frames[n:]
}

func (r *ring) clear() { r.frames, r.bytes = nil, 0 }

// first is the seq of the oldest frame, 0 if there is none.
func (r *ring) first() int64 {
	if len(r.frames) == 0 {
		return 0
	}
	return r.frames[0].seq
}

// after returns the frames behind seq, if the ring holds the very next one. They are good until the next change.
func (r *ring) after(seq int64) []*frame {
	first := r.first()
	if first == 0 || seq+1 < first {
		return nil
	}
	skip := seq + 1 - first
	if skip >= int64(len(r.frames)) {
		return nil
	}
	return r.frames[skip:]
}
