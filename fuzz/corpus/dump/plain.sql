--
-- PostgreSQL database dump
--
\restrict abc123
-- Dumped from database version 15.4
SET standard_conforming_strings = on;
CREATE TABLE public.t (x text);
COPY public.t (x) FROM stdin;
a\tb
\.
-- Name: f(); Type: FUNCTION; Schema: public; Owner: app
CREATE FUNCTION f() RETURNS text LANGUAGE sql AS $_$SELECT ';--' $_$;
GRANT SELECT ON TABLE public.t TO reader;
--
-- PostgreSQL database dump complete
--
\unrestrict abc123
