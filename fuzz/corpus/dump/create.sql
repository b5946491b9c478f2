-- Name: shop; Type: DATABASE; Schema: -; Owner: app
CREATE DATABASE shop WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE = 'C.UTF-8';
ALTER DATABASE shop OWNER TO app;
-- Name: shop; Type: DATABASE PROPERTIES; Schema: -; Owner: app
ALTER DATABASE shop SET a.b TO 'it''s';
ALTER ROLE app IN DATABASE shop SET x TO 'y';
E'\\''/* x */ "a""b" \! id
