// Package console is what the page and the control API of a simulator are made of, whichever provider it simulates: the page
// under a policy that allows only itself (Page), the API's routes with their listing, JSON and errors (API, Read, QueryNumber),
// the stream of what happens (Events), files that are safe to show (ServeFile), samples of them for messages without one
// (SamplePhoto and others), and the bounded record of which the ledger is made (Ring).
//
// What the routes do, which errors there are and what the page looks like is the simulator's. The package knows none of them,
// and nothing of the product.
package console
