package faults

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/redis/go-redis/v9"
	redisadapter "github.com/zishang520/socket.io/adapters/redis/v3"
	"github.com/zishang520/socket.io/adapters/redis/v3/emitter"
	"github.com/zishang520/socket.io/servers/socket/v3"
)

// roleEmitter is a process that is neither node nor worker and emits what it is told: one emission a line, each answered
// with a line once Redis has it. REDIS_URL says where.
const roleEmitter = "emitter"

// emission is an event to the sockets of some rooms; no rooms are all sockets.
type emission struct {
	Rooms []string `json:"rooms"`
	Event string   `json:"event"`
}

func playEmitter(ctx context.Context, in io.Reader, out io.Writer) error {
	options, err := redis.ParseURL(os.Getenv("REDIS_URL"))
	if err != nil {
		return err
	}
	client := redis.NewClient(options)
	defer func() { _ = client.Close() }()
	library := emitter.NewEmitter(redisadapter.NewRedisClient(ctx, client), nil)
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var e emission
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		to := library.To()
		for _, r := range e.Rooms {
			to = to.To(socket.Room(r))
		}
		err := to.Emit(e.Event, map[string]any{"from": roleEmitter})
		if _, failed := fmt.Fprintln(out, "emitted"); err != nil || failed != nil {
			return errors.Join(err, failed)
		}
	}
	return lines.Err()
}
