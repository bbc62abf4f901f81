// Package cloudapi simulates Meta's WhatsApp Business Cloud API (Graph API v21.0 and others of its shape), over HTTP,
// with the customers' phones behind it. It knows nothing of the product that it is used to try and test.
//
//	sim, err := cloudapi.New(cloudapi.Options{Numbers: []cloudapi.Number{cloudapi.DemoNumber(webhookURL)}})
//	http.Serve(listener, sim.Handler()); sim.Start(ctx); defer sim.Close()
//
// # What is simulated
//
//   - Graph API, /vNN.N/…: POST {phone}/messages (every type, receipts, typing), POST {phone}/media, GET and DELETE
//     {media}, GET {phone}?fields=, POST {phone} (webhook_configuration), GET {waba}, {waba}/phone_numbers,
//     {waba}/message_templates, GET, POST and DELETE {waba}/subscribed_apps (with override_callback_uri). Bearer
//     authentication and errors in Meta's shape. Unknown fields of bodies are ignored, as Meta does.
//   - Webhooks: every inbound type and status, signed over the raw bytes, with Meta's escaping (\uXXXX and \/).
//     First attempts leave in order, one at a time per number (Options.Parallel); an attempt that is not answered 200
//     is repeated by Options.Backoff without holding up the others.
//   - Media links that need the token and live for 5 minutes.
//   - The 24-hour window: until a customer wrote, only templates reach them (131047), unless Number.NoWindow.
//   - The limits on sending, as Meta documents them: 80 messages a second from a number (130429), 1,000 with
//     Number.HighThroughput, and to one customer one every 6 seconds or 45 at once (131056). Options.NoLimits and
//     Number.NoLimits lift them.
//   - Faults of all of these, Fault, and a Ledger of everything, to compare with what the product believes.
//
// What Meta does and this does not: links in messages (image.link) are not fetched; templates are not reviewed;
// what customers write does not count against a number's throughput; customers' typing is not reported, as Meta does not.
//
// # Control API
//
// Everything that the Go API does can be done over HTTP; GET /control/ lists the routes, and GET / is a page on which one
// acts as the customer. JSON bodies have the shapes of Number, Customer, Incoming, Fault, Template and Entry.
//
//	GET    /control/numbers                                       POST   the same: register
//	GET    /control/numbers/{number}                              PATCH, DELETE
//	POST   /control/numbers/{number}/verify | redeliver | webhook (raw body) | media (file)
//	GET    /control/numbers/{number}/templates                    PUT
//	GET    /control/customers                                     POST
//	GET    /control/numbers/{n}/customers/{c}/messages            POST: the customer sends
//	POST   /control/numbers/{n}/customers/{c}/reactions | read | typing | window
//	POST   /control/messages/{wamid}/status
//	GET    /control/faults                                        POST, DELETE; DELETE /control/faults/{id}
//	GET    /control/ledger                                        DELETE; GET /control/ledger/messages/{wamid}
//	GET    /control/idle    GET /control/media/{media}    GET /control/events (server-sent events)
//
// # Who locks what
//
// Server.mu guards numbers, customers, conversations and templates; each line, the ledger, the faults, the media and the
// event streams have a mutex of their own, always taken after Server.mu and never while holding another but the ledger's,
// the faults' and the streams', which are leaves.
package cloudapi
