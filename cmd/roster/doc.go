// Command roster is a SCIM 2.0 server and the tools around it. Run "roster help"
// for what there is; serve.go is where the parts of the server meet.
package main
