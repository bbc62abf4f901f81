package realtime

import (
	"log/slog"
	"reflect"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/zishang520/socket.io/v3/pkg/types"
)

// listeners is the library's EventEmitter for objects of which there are many and that have few listeners each: a list
// instead of its maps of lists, a tenth of the memory.
type listeners struct {
	logger *slog.Logger

	mu  sync.Mutex // guards all
	all []listener
}

type listener struct {
	name types.EventName
	call types.EventListener
	code uintptr // by which the library knows a function again
	once bool
}

var _ types.EventEmitter = (*listeners)(nil)

func (l *listeners) add(name types.EventName, calls []types.EventListener, once bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, call := range calls {
		if call != nil {
			l.all = append(l.all, listener{name, call, reflect.ValueOf(call).Pointer(), once})
		}
	}
	return nil
}

// AddListener adds functions that are called at every event of that name.
func (l *listeners) AddListener(name types.EventName, calls ...types.EventListener) error {
	return l.add(name, calls, false)
}

// On is AddListener.
func (l *listeners) On(name types.EventName, calls ...types.EventListener) error {
	return l.add(name, calls, false)
}

// Once adds functions that are called at the next event of that name.
func (l *listeners) Once(name types.EventName, calls ...types.EventListener) error {
	return l.add(name, calls, true)
}

// Emit calls the listeners of an event, in the order in which they were added. A panic in one is logged, as in the library:
// the others are called all the same.
func (l *listeners) Emit(name types.EventName, args ...any) {
	var few [4]types.EventListener
	calls := few[:0]
	l.mu.Lock()
	l.all = slices.DeleteFunc(l.all, func(one listener) bool {
		if one.name != name {
			return false
		}
		calls = append(calls, one.call)
		return one.once
	})
	l.mu.Unlock()
	for _, call := range calls {
		l.guarded(name, call, args)
	}
}

func (l *listeners) guarded(name types.EventName, call types.EventListener, args []any) {
	defer func() {
		if problem := recover(); problem != nil {
			l.logger.Error("[Socket.IO] a listener caused a panic", slog.String("event", string(name)),
				slog.Any("panic", problem), slog.String("stack", string(debug.Stack())))
		}
	}()
	call(args...)
}

// RemoveListener removes one function, and reports whether it was there.
func (l *listeners) RemoveListener(name types.EventName, call types.EventListener) bool {
	if call == nil {
		return false
	}
	code := reflect.ValueOf(call).Pointer()
	return l.remove(func(one listener) bool { return one.name == name && one.code == code })
}

// RemoveAllListeners removes the listeners of an event, and reports whether there were any.
func (l *listeners) RemoveAllListeners(name types.EventName) bool {
	return l.remove(func(one listener) bool { return one.name == name })
}

func (l *listeners) remove(which func(listener) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := len(l.all)
	l.all = slices.DeleteFunc(l.all, which)
	return len(l.all) < before
}

// Clear removes all listeners.
func (l *listeners) Clear() { l.remove(func(listener) bool { return true }) }

// EventNames are the events that have listeners.
func (l *listeners) EventNames() []types.EventName {
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []types.EventName
	for _, one := range l.all {
		if !slices.Contains(names, one.name) {
			names = append(names, one.name)
		}
	}
	return names
}

// Len is the number of events that have listeners.
func (l *listeners) Len() int { return len(l.EventNames()) }

// Listeners are the functions that an event would call.
func (l *listeners) Listeners(name types.EventName) []types.EventListener {
	l.mu.Lock()
	defer l.mu.Unlock()
	var calls []types.EventListener
	for _, one := range l.all {
		if one.name == name {
			calls = append(calls, one.call)
		}
	}
	return calls
}

// ListenerCount is the number of functions that an event would call.
func (l *listeners) ListenerCount(name types.EventName) int { return len(l.Listeners(name)) }
