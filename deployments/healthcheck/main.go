// Command healthcheck asks an address and exits 0 if the answer is 200, else 1. The image has no shell and no curl, so
// container health checks run this. Without an argument it asks /readyz of the process in the same container, by PORT.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

const (
	timeout     = 3 * time.Second
	defaultPort = "3000"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("PORT")); err != nil {
		fmt.Fprintln(os.Stderr, "healthcheck:", err)
		os.Exit(1) //nolint:forbidigo // the main function of a command
	}
}

func run(args []string, port string) error {
	address, err := addressOf(args, port)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil) //nolint:gosec // whoever starts the container says where to ask
	if err != nil {
		return fmt.Errorf("the address is not a URL: %w", err)
	}
	response, err := http.DefaultClient.Do(request) //nolint:gosec // as above
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	if err := response.Body.Close(); err != nil {
		return fmt.Errorf("the answer broke off: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %d, want 200", address, response.StatusCode)
	}
	return nil
}

func addressOf(args []string, port string) (string, error) {
	switch {
	case len(args) > 1:
		return "", errors.New("want one URL, or nothing")
	case len(args) == 1:
		return args[0], nil
	case port == "":
		port = defaultPort
	}
	return "http://" + net.JoinHostPort("127.0.0.1", port) + "/readyz", nil
}
