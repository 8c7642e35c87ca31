// Command roster is a SCIM 2.0 server with its tools. "roster help" lists the commands;
// serve.go is where the parts of the server are put together.
package main
