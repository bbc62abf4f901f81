package console

// Ring keeps the newest values. The zero value is empty. It does not lock.
type Ring[T any] struct {
	list []T
	head int // index of the oldest
}

// Push adds a value; when there are more than limit it returns the oldest, which it forgets. The limit must be above 0 and
// always the same.
func (r *Ring[T]) Push(v T, limit int) (oldest T, full bool) {
	if len(r.list) < limit {
		r.list = append(r.list, v)
		return oldest, false
	}
	oldest = r.list[r.head]
	r.list[r.head] = v
	r.head = (r.head + 1) % len(r.list)
	return oldest, true
}

// All yields the values, oldest first.
func (r *Ring[T]) All(yield func(T) bool) {
	for i := range r.list {
		if !yield(r.list[(r.head+i)%len(r.list)]) {
			return
		}
	}
}
