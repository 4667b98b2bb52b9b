"""The call rules. Pure: no I/O, no clock, no threads; imports only the event type of
`freeswitch.events`."""
