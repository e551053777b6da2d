// Package suites drives the built binary with other people's clients and test
// suites: gRPC's interoperability tests, WebSocket, HTTP/3, TLS. It is a module
// of its own, so that what those pull in stays out of the product's.
package suites
